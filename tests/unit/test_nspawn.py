"""The nspawn driver: what it refuses, and that only our own machines are ours."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bakery import machine
from bakery.disk import hold
from bakery.drivers import nspawn_supervisor
from bakery.drivers.base import MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.process import started_at
from tests.unit.samples import access

Make = Callable[..., MachineSpec]


def test_root_is_needed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Nspawn().check()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="needs root") as refused:
        Nspawn().check()
    assert refused.value.hint == "run it with sudo"


def test_a_missing_tool_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="systemd-nspawn is missing") as refused:
        Nspawn().check()
    assert refused.value.hint == "apt-get install systemd-container"


@contextmanager
def process() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "60"])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def write_pid(spec: MachineSpec, number: int, start: str | None) -> None:
    spec.folder.mkdir(exist_ok=True)
    (spec.folder / "supervisor.pid").write_text(f"{number} {start}")


def test_a_machine_is_ended_by_its_own_process(make_spec: Make) -> None:
    spec, driver = make_spec(), Nspawn()
    assert not driver.running(spec)
    driver.stop(spec)
    with process() as number:
        write_pid(spec, number, started_at(number))
        assert driver.running(spec)
        driver.stop(spec, seconds=5)
        assert started_at(number) is None
    assert not driver.running(spec)
    assert not (spec.folder / "supervisor.pid").exists()


def test_another_process_with_the_same_number_is_left_alone(make_spec: Make) -> None:
    spec, driver = make_spec(), Nspawn()
    with process() as number:
        write_pid(spec, number, "1")
        assert not driver.running(spec)
        assert driver.host_key(spec) is None
        driver.stop(spec, seconds=1)
        assert started_at(number) is not None


@pytest.mark.parametrize("text", ["", "garbage", "12", "a b", "a b c"])
def test_a_damaged_record_is_no_machine(make_spec: Make, text: str) -> None:
    spec = make_spec()
    spec.folder.mkdir()
    (spec.folder / "supervisor.pid").write_text(text)
    assert not Nspawn().running(spec)


def test_a_disk_has_one_machine_at_a_time(make_spec: Make) -> None:
    spec = make_spec()
    held = hold(spec.disk)
    assert Nspawn().running(spec), "something of it still has its disk"
    with pytest.raises(BakeryError, match=f"{spec.disk} is in use by another machine"):
        hold(spec.disk)
    os.close(held)
    assert not Nspawn().running(spec)
    os.close(hold(spec.disk))


def test_the_lock_ends_with_its_process(make_spec: Make) -> None:
    spec = make_spec()
    code = (
        "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR);"
        "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(spec.disk)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(BakeryError):
            hold(spec.disk)
        child.kill()
    file = hold(spec.disk)
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def test_a_machine_that_cannot_start_says_why_and_leaves_nothing(make_spec: Make) -> None:
    spec, driver = make_spec(), Nspawn()
    started = time.monotonic()
    with pytest.raises(BakeryError, match=r"did not start|ended while it booted") as failed:
        machine.boot(driver, spec, access(), seconds=20)
    assert time.monotonic() - started < 10
    assert "sfdisk failed" in failed.value.tail
    assert failed.value.log == spec.console
    assert not driver.running(spec)
    assert str(spec.folder) not in Path("/proc/mounts").read_text()


def test_a_machine_has_a_control_group_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nspawn_supervisor, "_UNIFIED", tmp_path / "cgroup.controllers")
    left = tmp_path / "mlflow-bakery-one" / "payload" / "user.slice"
    left.mkdir(parents=True)
    made = nspawn_supervisor._own_group("one")
    assert made == tmp_path / "mlflow-bakery-one"
    assert list(made.iterdir()) == [], "what an earlier machine left is gone"
    (made / "payload").mkdir()
    nspawn_supervisor._clear(made)
    assert not made.exists()
    monkeypatch.setattr(nspawn_supervisor, "_UNIFIED", Path("/proc/cgroup.controllers"))
    assert nspawn_supervisor._own_group("one") is None
