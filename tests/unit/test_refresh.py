"""Refreshing: what is new is tested before it counts; what fails leaves the old image newest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery import bake_local, pool, refresh
from bakery.errors import BakeryError, InputError
from bakery.manifest import Catalogue, Manifest
from bakery.pins import LOCK
from bakery.settings import Settings, load
from tests.unit.samples import manifest

Prove = Callable[[Settings, Manifest], None]


@pytest.fixture
def settings(state: Path) -> Settings:
    return load()


@pytest.fixture
def catalogue(settings: Settings) -> Catalogue:
    with pool.opened(settings.state_dir) as disks:
        found = Catalogue(settings.state_dir, disks)
        add(found, manifest("old", "key"))
    return found


def add(catalogue: Catalogue, made: Manifest) -> None:
    catalogue.add(made)
    catalogue.disk(made.id).parent.mkdir(exist_ok=True)
    catalogue.disk(made.id).write_bytes(b"disk")


@pytest.fixture
def lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock whose renewal changes MySQL's series and misses a digest."""
    file = tmp_path / "lock.toml"
    file.write_text(LOCK.read_text())

    def lock(*, path: Path, **_: object) -> list[str]:
        path.write_text(path.read_text().replace('series = "', 'series = "9'))
        return ["mysql: no such host\nand more"]

    monkeypatch.setattr(refresh, "lock", lock)
    return file


def baking(catalogue: Catalogue, made: Manifest) -> Callable[..., Manifest]:
    def bake(settings: Settings, *, prove: Prove) -> Manifest:
        if made.state == "candidate":
            with pool.opened(settings.state_dir):
                add(catalogue, made)
            return bake_local.promoted(settings, made, prove)
        return made

    return bake


def newest(settings: Settings, catalogue: Catalogue) -> str:
    with pool.opened(settings.state_dir):
        return catalogue.choose(None).id


def candidate() -> Manifest:
    return manifest("new", "key2", created=1).model_copy(update={"state": "candidate"})


def test_nothing_new(
    settings: Settings,
    catalogue: Catalogue,
    lock_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refresh, "bake", baking(catalogue, manifest("old", "key")))
    summary = tmp_path / "summary.md"
    summary.write_text("of an earlier step\n")
    done = refresh.refresh(settings, summary=summary, lock_file=lock_file)
    assert (done.new, done.image.id) == (False, "old")
    text = summary.read_text()
    assert text.startswith("of an earlier step\n## Nothing new\n")
    assert "| mysql | 9.7 | 99.7 |" in text
    assert "- mysql: no such host\n" in text


def test_what_is_new_counts_when_it_passed(
    settings: Settings, catalogue: Catalogue, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def passes(_: Settings, made: Manifest) -> None:
        seen.extend([made.id, newest(settings, catalogue)])

    monkeypatch.setattr(refresh, "bake", baking(catalogue, candidate()))
    monkeypatch.setattr(refresh, "_try_out", passes)
    done = refresh.refresh(settings, lock_file=lock_file)
    assert seen == ["new", "old"], "while it is tested, the old one is the newest"
    assert (done.new, done.image.id, done.old) == (True, "new", "old")
    assert newest(settings, catalogue) == "new"
    assert "Compared with old" in done.report


def test_what_fails_its_test_leaves_the_old_image_newest(
    settings: Settings,
    catalogue: Catalogue,
    lock_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Settings, made: Manifest) -> None:
        raise BakeryError(f"{made.id} did not pass: login")

    monkeypatch.setattr(refresh, "bake", baking(catalogue, candidate()))
    monkeypatch.setattr(refresh, "_try_out", fails)
    summary = tmp_path / "summary.md"
    with pytest.raises(BakeryError, match="did not pass"):
        refresh.refresh(settings, summary=summary, lock_file=lock_file)
    assert newest(settings, catalogue) == "old"
    with pool.opened(settings.state_dir), pytest.raises(InputError, match="did not pass its test"):
        catalogue.choose("new")
    assert "## Refresh failed\n\nnew did not pass: login" in summary.read_text()
    assert json.loads(catalogue.manifest_file("new").read_text())["state"] == "rejected"


def test_what_could_not_be_tried_stays_a_candidate(
    settings: Settings, catalogue: Catalogue, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: Settings, made: Manifest) -> None:
        raise InputError("no space")

    monkeypatch.setattr(refresh, "bake", baking(catalogue, candidate()))
    monkeypatch.setattr(refresh, "_try_out", refuses)
    with pytest.raises(InputError, match="no space"):
        refresh.refresh(settings, lock_file=lock_file)
    with pool.opened(settings.state_dir):
        assert catalogue.by_key("key2") is None
        found = catalogue.by_key("key2", candidate=True)
    assert found
    assert found.id == "new"
    assert newest(settings, catalogue) == "old"


def test_a_trial_is_removed_whether_it_passed_or_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(
        refresh, "deploy", lambda trial, image: calls.append(("deploy", f"{trial.name} {image}"))
    )
    monkeypatch.setattr(
        refresh, "destroy", lambda trial, **_: calls.append(("destroy", trial.name))
    )

    def fails(trial: Settings) -> list[object]:
        raise BakeryError("it does not answer")

    monkeypatch.setattr("bakery.up.check_server", fails)
    with pytest.raises(BakeryError, match="does not answer"):
        refresh._try_out(settings, manifest("20260101-000000-0123abcd"))
    assert calls == [
        ("deploy", "trial-0123abcd 20260101-000000-0123abcd"),
        ("destroy", "trial-0123abcd"),
    ]
