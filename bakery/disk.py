"""Raw disk files: where their root partition is, making them larger, attaching them as loops."""

import errno
import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bakery.errors import BakeryError
from bakery.run import run

_SECTOR = 512
_LEAVING_SECONDS = 5
"""How long a machine that was killed may still have its disk."""
# <linux/loop.h>: struct loop_config with the loop_info64 in it.
_GET_FREE, _CONFIGURE, _AUTOCLEAR = 0x4C82, 0x4C0A, 4
_LOOP_CONFIG = "II QQQQQ IIII 64s 64s 32s 2Q 8Q"


@dataclass(frozen=True)
class Partition:
    """A partition of a raw disk file; offset and size in bytes."""

    number: int
    offset: int
    size: int


def root_partition(disk: Path) -> Partition:
    """Return the root partition of a bootable disk: its largest one."""
    table = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    rows = [
        Partition(
            number=int(row["node"].removeprefix(str(disk)).lstrip("p")),
            offset=row["start"] * _SECTOR,
            size=row["size"] * _SECTOR,
        )
        for row in table["partitions"]
    ]
    return max(rows, key=lambda row: row.size)


def attach(disk: Path, partition: Partition | None = None) -> tuple[str, int]:
    """Attach a disk file, or one partition of it; return the loop device's path and it, open.

    The device goes when nobody has it open or mounted any more. `losetup` cannot do so in one
    go: a kill between two calls of it would leave the device behind for ever.

    Raises:
        BakeryError: There is no free loop device, or the kernel refuses.
    """
    start, size = (partition.offset, partition.size) if partition else (0, 0)
    name = os.fsencode(disk.name)[:63]
    file = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        config = struct.pack(
            _LOOP_CONFIG, file, 0, 0, 0, 0, start, size, 0, 0, 0, _AUTOCLEAR, name, b"", b"",
            *[0] * 10,
        )  # fmt: skip
        return _configure(config)
    except OSError as error:
        raise BakeryError(f"{disk} cannot be attached: {error.strerror}") from error
    finally:
        os.close(file)


def _configure(config: bytes) -> tuple[str, int]:
    """Give a free loop device a file; somebody else may take the one that was found free."""
    while True:
        with open("/dev/loop-control", "rb", buffering=0) as control:  # noqa: PTH123 - a device
            path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _CONFIGURE, config)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:
                raise
        else:
            return path, device


@contextmanager
def attached(disk: Path, partition: Partition | None = None) -> Iterator[str]:
    """Attach a disk file, or one partition of it, as a loop device and give its path."""
    device, held = attach(disk, partition)
    try:
        yield device
    finally:
        os.close(held)


def hold(disk: Path) -> int:
    """Lock a disk's file for as long as the returned descriptor is open.

    Nothing else fences a loop device: two machines could write to one file. The lock may end a
    moment before the mounts of the machine that held it, hence the look for loops.

    Raises:
        BakeryError: Another machine has it.
    """
    file = os.open(disk, os.O_RDWR)
    deadline = time.monotonic() + _LEAVING_SECONDS
    locked = _lock(file)
    while locked and loops(disk) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not locked or loops(disk):
        os.close(file)
        raise BakeryError(f"{disk} is in use by another machine", hint="./inv stop")
    return file


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def loops(disk: Path) -> list[str]:
    """Return the loop devices that a disk's file is behind."""
    words = ["losetup", "--noheadings", "--output", "NAME", "--associated", str(disk)]
    return run(words).stdout.split()


def grow_root(disk: Path, size: int) -> None:
    """Make a disk file `size` bytes long and its root partition and file system fill it."""
    if disk.stat().st_size >= size:
        return
    with disk.open("r+b") as file:
        file.truncate(size)
    number = root_partition(disk).number
    run(["sfdisk", "--quiet", "--relocate", "gpt-bak-std", disk])
    run(["sfdisk", "--quiet", "--no-reread", "-N", str(number), disk], stdin=",+\n")
    with attached(disk, root_partition(disk)) as device:
        # 0 is clean, 1 is mended; resize2fs asks for a checked file system.
        run(["e2fsck", "-f", "-p", device], check=False)
        run(["resize2fs", device])
