"""Booting: it ends when one can log in, when the machine ended, or at the deadline."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery import machine, ssh
from bakery.drivers.base import MachineSpec
from bakery.errors import BakeryError
from tests.unit.samples import access

Make = Callable[..., MachineSpec]


class FakeDriver:
    """A machine that never really runs."""

    def __init__(self, *, lives: bool = True) -> None:
        self.lives = lives
        self.started: list[str] = []

    def check(self) -> None: ...

    def start(self, spec: MachineSpec) -> None:
        self.started.append(spec.name)
        spec.folder.mkdir(exist_ok=True)
        spec.console.write_text("\x1b[32m[  OK  ]\x1b[0m Started\nKernel panic\r\x07\n")

    def stop(self, spec: MachineSpec, *, seconds: float = 60) -> None: ...

    def running(self, spec: MachineSpec) -> bool:  # noqa: ARG002
        return self.lives

    def host_key(self, spec: MachineSpec) -> str | None: ...

    def attach(self, spec: MachineSpec, disk: Path) -> None: ...

    def detach(self, spec: MachineSpec) -> None: ...


def test_it_ends_when_one_can_log_in(make_spec: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]
    monkeypatch.setattr(ssh, "answers", lambda *_: answers.pop(0))
    driver = FakeDriver()
    machine.boot(driver, make_spec(), access(), seconds=10)
    assert driver.started == ["bktest-1"]
    assert answers == []


@pytest.mark.parametrize(
    ("lives", "told"), [(True, "not answer over SSH"), (False, "ended while it booted")]
)
def test_a_machine_that_does_not_boot_shows_its_console(
    make_spec: Make, monkeypatch: pytest.MonkeyPatch, lives: bool, told: str
) -> None:
    monkeypatch.setattr(ssh, "answers", lambda *_: False)
    spec = make_spec()
    started = time.monotonic()
    with pytest.raises(BakeryError, match=told) as failed:
        machine.boot(FakeDriver(lives=lives), spec, access(), seconds=0.3 if lives else 60)
    assert time.monotonic() - started < 5
    assert failed.value.log == spec.console
    assert failed.value.tail.splitlines()[-1].startswith("Kernel panic")
    assert "\x1b" not in failed.value.tail, "it must not paint the caller's terminal"
    assert failed.value.hint
