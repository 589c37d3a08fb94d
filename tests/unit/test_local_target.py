"""The local target's steps, on a driver that only takes notes."""

from pathlib import Path
from typing import Any

import pytest

from bakery import duty, machine
from bakery.drivers.base import MachineSpec
from bakery.errors import BakeryError
from bakery.network import Network
from bakery.settings import Settings
from bakery.state import Deployment, DeploymentFolder, Generation
from bakery.targets.base import Answer
from bakery.targets.local import LocalTarget

ONE, TWO = (Generation(number=number, image="i") for number in (1, 2))


class Driver:
    """Machines that run until they are stopped, unless they are stuck."""

    def __init__(self) -> None:
        self.up = {"bk-1", "bk-2"}
        self.stuck = False
        self.done: list[str] = []

    def running(self, spec: MachineSpec) -> bool:
        return spec.name in self.up

    def stop(self, spec: MachineSpec, *, seconds: float) -> None:
        self.done.append(f"stop {spec.name} {seconds}")
        if not self.stuck:
            self.up.discard(spec.name)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalTarget:
    folder = DeploymentFolder(tmp_path, "x")
    folder.save(
        Deployment(
            id="", name="x", network=Network("bkx", "10.88.0.0/28"), generation=TWO, previous=ONE
        )
    )
    made = LocalTarget(Settings(name="x", state_dir=tmp_path), tmp_path / "pool", folder)
    made.driver = Driver()  # type: ignore[assignment]
    monkeypatch.setattr(machine, "boot", lambda *_, **__: None)
    return made


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("NRestarts=0\nSubState=start\n", ""),
        ("NRestarts=0\nSubState=exited\n", ""),
        ("NRestarts=0\nSubState=auto-restart\n", "its server does not start"),
        ("NRestarts=2\nSubState=start\n", "its server does not start"),
        ("", ""),
    ],
)
def test_a_server_whose_start_failed_is_waited_for_in_vain(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, said: str, fault: str
) -> None:
    answer = Answer(0 if said else 255, said, "")
    monkeypatch.setattr(target, "execute", lambda *_, **__: answer)
    assert target.fault(TWO) == fault


def test_a_machine_that_has_ended_is_waited_for_in_vain(target: LocalTarget) -> None:
    target.driver.stop(target.spec(TWO), seconds=0)
    assert target.fault(TWO) == "its machine has ended"


def test_one_that_does_not_stop_serving_is_killed(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver: Any = target.driver
    monkeypatch.setattr(duty, "ask", lambda *_, **__: {"runs": 3})
    assert target.quiesce(TWO) == {"runs": 3}
    assert driver.done == []

    def fails(*_: object, **__: object) -> None:
        raise BakeryError("it hangs")

    monkeypatch.setattr(duty, "ask", fails)
    assert target.quiesce(TWO) == {}
    assert driver.done == ["stop bk-2 0"]
    assert "it is killed: it hangs" in capsys.readouterr().err
    assert target.quiesce(TWO) == {}, "nothing to do"
    driver.up.add("bk-2")
    driver.stuck = True
    with pytest.raises(BakeryError, match="neither be stopped nor killed"):
        target.quiesce(TWO)


def test_only_the_one_that_counts_may_let_clients_in_when_it_boots(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(duty, "ask", lambda _, one, verb: asked.append(f"{verb} {one.number}"))
    assert target.create(TWO) == ""
    assert asked == []
    assert target.create(ONE) == ""
    assert asked == ["close 1"]
