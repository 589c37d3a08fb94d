"""Deploying, step by step on a target that only takes notes: the order, and what is undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bakery import checks, deploy, duty, rotate, targets
from bakery import replace as replacement
from bakery.errors import BakeryError, InputError
from bakery.manifest import Catalogue
from bakery.settings import Settings
from bakery.state import Deployment, DeploymentFolder
from bakery.targets.base import Target
from bakery.targets.local import LocalTarget
from tests.unit.noting import FOUNDATIONS, FakeTarget
from tests.unit.samples import manifest

ALL_STEPS = [
    "check", "settle", *FOUNDATIONS,
    "create 1", "attach 1", "move_address 1", "activate 1", "ready 1", "admit 1", "ready 1",
]  # fmt: skip


AGAIN = ["create 1", "attach 1", "move_address 1", "admit 1", "activate 1", "ready 1"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(name="x", state_dir=tmp_path)


@pytest.fixture
def target(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FakeTarget:
    catalogue = Catalogue(tmp_path, tmp_path / "pool")
    for number, image in enumerate(("old", "new")):
        catalogue.add(manifest(image, created=number))
        catalogue.disk(image).parent.mkdir(parents=True, exist_ok=True)
        catalogue.disk(image).touch()
    fake = FakeTarget(catalogue, settings)

    @contextmanager
    def opened(_: Settings, *, new: bool = False) -> Iterator[FakeTarget]:
        del new
        yield fake

    def wait_ready(server: Any, *, deadline: float, **_: object) -> float:
        if deadline == replacement._SERVES_SECONDS:
            fake._do(f"serves {server.number}")
            return 0
        assert deadline == settings.ready_seconds
        fake._do(f"ready {server.number}")
        return 0

    monkeypatch.setattr(targets, "opened", opened)
    monkeypatch.setattr(checks, "wait_ready", wait_ready)
    monkeypatch.setattr(rotate, "apply", lambda *_, **__: None)
    monkeypatch.setattr(duty, "ask", lambda _, one, verb: fake._do(f"{verb} {one.number}"))
    return fake


def test_the_fake_has_the_methods_of_the_real_one() -> None:
    used = {name for name in vars(FakeTarget) if not name.startswith("_")}
    used -= {"current_image", "serving"}
    assert [name for name in used if not hasattr(Target, name)] == []


def test_a_first_deploy_takes_its_steps_in_order(target: FakeTarget, settings: Settings) -> None:
    deploy.deploy(settings)
    assert target.done == ALL_STEPS
    assert target.current_image == "new", "the newest image"


def test_the_image_that_is_named_is_deployed(target: FakeTarget, settings: Settings) -> None:
    deploy.deploy(settings, image="old")
    assert target.current_image == "old"


def test_a_data_disk_that_is_gone_is_given_up_first(target: FakeTarget, settings: Settings) -> None:
    deploy.deploy(settings, new_data_disk=True)
    assert target.done == ["give_up_data_disk", *ALL_STEPS]


def test_only_a_data_disk_that_is_gone_can_be_given_up(tmp_path: Path, settings: Settings) -> None:
    folder = DeploymentFolder(tmp_path, "x")
    kept = Deployment(name="x", data_disk_served=True, environment_digest="as it is")
    folder.save(kept)
    local = LocalTarget(settings, tmp_path / "pool", folder)
    local.data_disk.parent.mkdir(parents=True)
    local.data_disk.touch()
    with pytest.raises(InputError, match="it holds the runs of x"):
        local.give_up_data_disk()
    assert folder.load() == kept
    local.data_disk.unlink()
    local.give_up_data_disk()
    found = folder.deployed()
    # The next machine may format an empty disk, and the one that runs is not taken for it.
    assert not found.data_disk_served
    assert found.data_disk_uuid != kept.data_disk_uuid
    assert found.environment_digest == ""


def test_an_unknown_image_is_refused_before_anything(
    target: FakeTarget, settings: Settings
) -> None:
    with pytest.raises(InputError, match="no image is called other"):
        deploy.deploy(settings, image="other")
    assert target.done == []


@pytest.mark.parametrize("failing", ALL_STEPS[2:-2])
@pytest.mark.parametrize("error", [BakeryError("broken"), KeyboardInterrupt()], ids=["err", "int"])
def test_a_first_deploy_that_fails_leaves_nothing_running_and_keeps_the_data(
    target: FakeTarget, settings: Settings, failing: str, error: BaseException
) -> None:
    target.fails[failing] = error
    with pytest.raises(type(error)):
        deploy.deploy(settings)
    done = [step for step in target.done if not step.startswith(("retire", "detach"))]
    assert done == [*ALL_STEPS[: ALL_STEPS.index(failing) + 1], "destroy False"]
    assert target.deployment.generation is None
    deploy.deploy(settings)
    assert target.serving == target.deployment.last_number


def test_what_is_refused_destroys_nothing(target: FakeTarget, settings: Settings) -> None:
    target.fails["check"] = InputError("no space")
    with pytest.raises(InputError):
        deploy.deploy(settings)
    assert target.done == ["check"]


def test_what_could_not_be_undone_is_told_beside_the_failure(
    target: FakeTarget, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    target.fails["create 1"] = BakeryError("no boot")
    target.destroy_failures = ["network: busy"]
    with pytest.raises(BakeryError, match="no boot"):
        deploy.deploy(settings)
    assert "warning: left behind: network: busy" in capsys.readouterr().err


def test_nothing_to_do(
    target: FakeTarget, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.deploy(settings)
    target.done.clear()
    deploy.deploy(settings)
    assert target.done == [*ALL_STEPS[:4], "serves 1"]
    assert "nothing to do: generation 1 serves new" in capsys.readouterr().err


def test_a_machine_without_its_disk_or_address_gets_them_back(
    target: FakeTarget, settings: Settings
) -> None:
    deploy.deploy(settings)
    target.astray.add(1)
    target.done.clear()
    deploy.deploy(settings)
    assert [step for step in target.done if "attach" in step or "move" in step]


def test_a_stopped_machine_is_started_by_another_deploy(
    target: FakeTarget, settings: Settings
) -> None:
    deploy.deploy(settings)
    deploy.stop(settings)
    assert target.serving is None
    target.done.clear()
    deploy.deploy(settings)
    assert target.done == [*ALL_STEPS[:4], *AGAIN]


@pytest.mark.parametrize("words", [{"replace": True}, {"image": "old"}], ids=str)
def test_another_image_or_replace_makes_a_new_generation(
    target: FakeTarget, settings: Settings, words: dict[str, Any]
) -> None:
    deploy.deploy(settings)
    target.done.clear()
    deploy.deploy(settings, **words)
    assert target.done[4:] == SECOND
    assert target.serving == 2
    assert [one.number for one in target.machines] == [1, 2]


SECOND = [
    "create 2", "wait 2", "quiesce 1", "detach 1", "snapshot 2", "attach 2", "move_address 2",
    "activate 2", "ready 2", "admit 2", "ready 2", "retire 1",
]  # fmt: skip


@pytest.mark.parametrize("failing", SECOND[:9])
@pytest.mark.parametrize("error", [BakeryError("broken"), KeyboardInterrupt()], ids=["err", "int"])
def test_a_second_generation_that_fails_gives_way_to_the_first(
    target: FakeTarget, settings: Settings, failing: str, error: BaseException
) -> None:
    deploy.deploy(settings)
    target.done.clear()
    target.fails[failing] = error
    with pytest.raises(type(error)):
        deploy.deploy(settings, replace=True)
    assert target.serving == 1
    current = target.deployment.generation
    assert current is not None
    assert current.number == 1
    assert not any(step.startswith("destroy") for step in target.done)
    assert target.done[-1] == "ready 1"
    untouched = failing in {"create 2", "wait 2"}
    assert ("create 1" in target.done) != untouched, "no restart for nothing"


def test_once_clients_may_be_in_there_is_no_way_back(
    target: FakeTarget, settings: Settings
) -> None:
    deploy.deploy(settings)
    target.fails["retire 1"] = BakeryError("broken")
    with pytest.raises(BakeryError, match="broken"):
        deploy.deploy(settings, replace=True)
    current = target.deployment.generation
    assert current is not None
    assert current.number == target.holder == 2
    deploy.start(settings)
    assert target.serving == 2
    assert target.deployment.pending is None


def test_the_first_failure_is_told_when_the_old_one_fails_too(
    target: FakeTarget, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.deploy(settings)
    target.fails = {"ready 2": BakeryError("not ready"), "create 1": BakeryError("no boot")}
    with pytest.raises(BakeryError, match="not ready"):
        deploy.deploy(settings, replace=True)
    assert "warning: generation 1 does not start: no boot" in capsys.readouterr().err


def test_a_server_that_is_not_ready_shows_its_journal(
    target: FakeTarget, settings: Settings
) -> None:
    target.fails["ready 1"] = BakeryError("not ready", hint="look")
    with pytest.raises(BakeryError, match="not ready") as failed:
        deploy.deploy(settings)
    assert failed.value.tail == "what machine 1 said"
    assert failed.value.hint == "look"


def test_start_and_stop(target: FakeTarget, settings: Settings) -> None:
    deploy.deploy(settings)
    deploy.stop(settings)
    deploy.stop(settings)
    target.done.clear()
    deploy.start(settings)
    assert target.done == ["check", *FOUNDATIONS, *AGAIN]


def test_what_is_not_deployed_is_neither_started_nor_stopped(
    target: FakeTarget, settings: Settings
) -> None:
    for verb in (deploy.start, deploy.stop):
        with pytest.raises(InputError, match="is not deployed"):
            verb(settings)
    assert target.done == []


def test_destroying_tells_what_is_left(
    target: FakeTarget, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.destroy(settings, with_data=True)
    assert target.done == []
    assert "nothing to destroy: no deployment is called x" in capsys.readouterr().err
    DeploymentFolder(settings.state_dir, "x").save(target.deployment)
    deploy.destroy(settings, with_data=True)
    assert target.done == ["destroy True"]
    target.destroy_failures = ["machine 1: busy", "network: busy"]
    with pytest.raises(BakeryError, match="machine 1: busy; network: busy") as failed:
        deploy.destroy(settings, with_data=False)
    assert failed.value.hint == "run it again"
