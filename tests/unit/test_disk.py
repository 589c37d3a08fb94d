"""Raw disks: the root partition, and growing it without losing what is in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bakery import disk
from bakery.errors import BakeryError
from bakery.run import run

MIB = 1 << 20
LAYOUT = "label: gpt\nsize=4MiB, type=U\nsize=16MiB, type=L\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A disk of 24 MiB: a small first partition, an ext4 root as the second."""
    path = tmp_path / "disk 1.raw"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(24 * MIB)
    run(["sfdisk", "--quiet", path], stdin=LAYOUT)
    root = disk.root_partition(path)
    content = tmp_path / "content"
    content.mkdir()
    (content / "kept").write_text("kept\n")
    run(["mkfs.ext4", "-q", "-d", content, "-E", f"offset={root.offset}", path, "16M"])
    return path


def test_the_root_is_the_largest_partition(raw: Path) -> None:
    assert disk.root_partition(raw) == disk.Partition(number=2, offset=5 * MIB, size=16 * MIB)


def test_a_grown_disk_is_filled_and_sound_and_keeps_its_files(raw: Path) -> None:
    disk.grow_root(raw, 64 * MIB)
    assert raw.stat().st_size == 64 * MIB
    root = disk.root_partition(raw)
    assert (root.number, root.offset) == (2, 5 * MIB)
    assert root.size > 57 * MIB
    assert "error" not in run(["sfdisk", "--verify", raw], check=False).stderr.lower()
    with disk.attached(raw, root) as device:
        run(["e2fsck", "-f", "-n", device])
        shown = run(["debugfs", "-R", "cat kept", device]).stdout
        blocks = run(["dumpe2fs", "-h", device]).stdout
    assert shown == "kept\n"
    count = next(line for line in blocks.splitlines() if line.startswith("Block count:"))
    assert int(count.split()[-1]) * 1024 > 55 * MIB


def test_a_disk_that_is_large_enough_is_left_alone(raw: Path) -> None:
    before = raw.read_bytes()
    disk.grow_root(raw, 8 * MIB)
    assert raw.read_bytes() == before


def test_a_loop_is_gone_even_when_its_use_failed(raw: Path) -> None:
    def use() -> None:
        with disk.attached(raw) as device:
            assert Path(device).is_block_device()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        use()
    assert str(raw) not in run(["losetup", "--list", "--noheadings"]).stdout


def loops_of(raw: Path) -> str:
    return run(["losetup", "--noheadings", "--output", "NAME", "--associated", raw]).stdout.strip()


def test_a_loop_goes_with_whoever_is_killed_right_after_attaching(raw: Path) -> None:
    code = f"""if True:
        import pathlib, signal
        from bakery import disk
        raw = pathlib.Path({str(raw)!r})
        print(disk.attach(raw, disk.root_partition(raw))[0], flush=True)
        signal.pause()
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        device = user.stdout.readline().strip()
        assert loops_of(raw) == device, "the control: it is seen while it is there"
        size = int(run(["blockdev", "--getsize64", device]).stdout)
        assert size == disk.root_partition(raw).size
        user.send_signal(signal.SIGKILL)
    assert loops_of(raw) == ""


def test_a_mounted_loop_stays_until_it_is_unmounted(raw: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    with disk.attached(raw, disk.root_partition(raw)) as device:
        run(["mount", device, place])
    try:
        assert (place / "kept").read_text() == "kept\n"
        assert loops_of(raw) == device
    finally:
        run(["umount", place])
    assert loops_of(raw) == ""


def test_a_disk_that_cannot_be_attached_is_named(tmp_path: Path) -> None:
    with pytest.raises(BakeryError, match="cannot be attached"):
        disk.attach(Path(os.devnull))
