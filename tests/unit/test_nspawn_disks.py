"""Data disks come and go: with real loop devices, one machine at a time."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakery.disk import hold, loops
from bakery.drivers import nspawn_disks
from bakery.drivers.nspawn_disks import Disks, ask
from bakery.errors import BakeryError


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "data.raw"
    with made.open("wb") as file:
        file.truncate(1 << 20)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A machine's folder: longer than the path of a socket may be."""
    made = tmp_path / ("long " * 20) / "machine: 1"
    (made / "disks").mkdir(parents=True)
    disks = Disks(made)
    disks.listen()
    yield made
    disks.detach()


def node(folder: Path) -> os.stat_result | None:
    path = folder / "disks" / "data"
    return path.stat() if path.exists() else None


def test_a_disk_comes_and_goes(folder: Path, disk: Path) -> None:
    ask(folder, "detach")
    ask(folder, "attach", disk)
    (device,) = loops(disk)
    found = node(folder)
    assert found is not None
    assert stat.S_ISBLK(found.st_mode)
    assert found.st_rdev == Path(device).stat().st_rdev
    ask(folder, "attach", disk)
    assert loops(disk) == [device], "nothing to do"
    with pytest.raises(BakeryError, match=r"the machine has .*data\.raw already"):
        ask(folder, "attach", disk.with_name("other.raw"))
    ask(folder, "detach")
    assert node(folder) is None
    assert loops(disk) == []
    os.close(hold(disk))


def test_two_machines_never_have_one_disk(folder: Path, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    other = Disks(tmp_path)
    ask(folder, "attach", disk)
    with pytest.raises(BakeryError, match="in use by another machine"):
        other.attach(disk)
    assert len(loops(disk)) == 1
    ask(folder, "detach")
    other.attach(disk)
    other.detach()


def test_what_is_still_mounted_stays_locked(
    folder: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nspawn_disks, "_LEAVING_SECONDS", 0.3)
    monkeypatch.setattr("bakery.disk._LEAVING_SECONDS", 0.1)
    ask(folder, "attach", disk)
    with Path(loops(disk)[0]).open("rb"):
        with pytest.raises(BakeryError, match="cannot be detached: the machine still uses"):
            ask(folder, "detach")
        with pytest.raises(BakeryError, match="in use by another machine"):
            hold(disk)
        # Who asked for it in vain may have it back.
        ask(folder, "attach", disk)
        assert node(folder) is not None
    ask(folder, "detach")
    os.close(hold(disk))


def test_a_lock_without_a_loop_is_not_enough(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that was killed lets its lock go before the last mount ends."""
    monkeypatch.setattr("bakery.disk._LEAVING_SECONDS", 0.1)
    words = ["losetup", "--find", "--show", str(disk)]
    device = subprocess.run(words, check=True, text=True, capture_output=True).stdout.strip()
    try:
        with pytest.raises(BakeryError, match="in use by another machine"):
            hold(disk)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    os.close(hold(disk))


def test_without_a_supervisor_that_is_said(tmp_path: Path, disk: Path) -> None:
    with pytest.raises(BakeryError, match="supervisor does not answer"):
        ask(tmp_path, "attach", disk)
