"""Backups as files: which are kept, which are refused."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow_bakery_machine import catalogue, dump, files, restore
from mlflow_bakery_machine.catalogue import Manifest, RefusedError, Store, retained

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def manifest(moment: datetime = NOW, **changes: object) -> Manifest:
    found = Manifest(
        name=catalogue.name_at("mlflow", moment),
        created=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        deployment="mlflow",
        mlflow="3.17.2",
        mysql="9.7.4",
        revision="head",
        artifacts="wasbs://mlflow@account.blob.core.windows.net/",
        rows={"runs": 1},
        sha256="0",
        bytes=1,
        sql_bytes=1,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_a_manifest_survives() -> None:
    assert catalogue.parse(json.loads(manifest().text())) == manifest()


@pytest.mark.parametrize("data", [[], {}, {"schema": 2}, {"schema": 1, "name": "x"}])
def test_a_strange_manifest_is_refused(data: object) -> None:
    with pytest.raises(RefusedError, match="manifest"):
        catalogue.parse(data)


def test_seven_days_and_four_weeks_are_kept() -> None:
    daily = [manifest(NOW - timedelta(days=days)) for days in range(100)]
    kept = retained(daily, NOW)
    ages = sorted((NOW - one.time).days for one in daily if one.name in kept)
    # A Monday: the weeks before it end 1, 8 and 15 days before.
    assert ages == [0, 1, 2, 3, 4, 5, 6, 8, 15]


def test_nothing_of_the_last_two_days_is_removed() -> None:
    hourly = [manifest(NOW - timedelta(hours=hours)) for hours in range(60)]
    kept = retained(hourly, NOW)
    assert {one.name for one in hourly[:48]} <= kept
    assert len(kept) < len(hourly)


def test_the_newest_is_never_removed_however_old() -> None:
    old = [manifest(NOW - timedelta(days=1000)), manifest(NOW - timedelta(days=2000))]
    assert old[0].name in retained(old, NOW)
    assert retained([], NOW) == set()


def test_what_is_kept_for_a_reason_is_never_removed() -> None:
    many = [manifest(NOW - timedelta(days=days)) for days in range(400)]
    old = replace(many[-1], kept="before the restore of x")
    assert old.name in retained([*many[:-1], old], NOW)
    assert old.name not in retained(many, NOW)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if os.geteuid() != 0:
        monkeypatch.setattr(files, "_own", lambda *_: None)
    return Store(tmp_path)


@pytest.fixture
def saved(store: Store) -> Manifest:
    name = manifest().name
    contents = dump.write([b"x\n" * 5000, b"-- Dump completed on a day\n"], store.dump(name))
    found = dump.measure(store.dump(name))
    made = manifest(sha256=found.sha256, bytes=found.size, sql_bytes=contents.size)
    store.save(made)
    return made


def test_a_whole_backup_is_found_and_verified(store: Store, saved: Manifest) -> None:
    store.verify(saved)
    assert store.all() == [saved]
    assert store.load(saved.name) == saved
    assert store.load("other") is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:0], "truncated"),
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], "altered"),
        (lambda data: data + b"x", "altered"),
    ],
)
def test_a_damaged_backup_is_refused(
    damage: object, said: str, store: Store, saved: Manifest
) -> None:
    path = store.dump(saved.name)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(RefusedError, match=said):
        store.verify(saved)


def test_a_dump_that_ended_early_is_refused_even_with_a_right_digest(store: Store) -> None:
    name = manifest().name
    contents = dump.write([b"x\n"], store.dump(name))
    found = dump.measure(store.dump(name))
    made = manifest(sha256=found.sha256, bytes=found.size, sql_bytes=contents.size)
    with pytest.raises(RefusedError, match="does not end"):
        store.verify(made)


def test_a_missing_dump_is_refused_and_not_listed(store: Store, saved: Manifest) -> None:
    store.dump(saved.name).unlink()
    with pytest.raises(RefusedError, match="missing"):
        store.verify(saved)
    assert store.all() == []


def test_a_damaged_manifest_is_refused_and_not_listed(store: Store, saved: Manifest) -> None:
    store.manifest(saved.name).write_text("{")
    with pytest.raises(RefusedError, match="damaged"):
        store.load(saved.name)
    assert store.all() == []


def test_only_what_a_kill_left_is_tidied_away(store: Store, saved: Manifest) -> None:
    store.part("x").touch()
    store.dump("without-manifest").touch()
    store.tidy()
    store.verify(saved)
    assert len(list(store.folder.iterdir())) == 2
    store.remove(saved.name)
    assert list(store.folder.iterdir()) == []


def test_a_newer_schema_is_refused_and_an_older_taken() -> None:
    target = {"mlflow": "3.17.2", "revision": "head", "ancestors": ["old"]}
    restore.check_readable(manifest(), target)
    restore.check_readable(manifest(revision="old"), target)
    with pytest.raises(RefusedError, match="does not know"):
        restore.check_readable(manifest(revision="newer", mlflow="9.0"), target)
