"""Raw disk files: where their root partition is, making them larger, attaching them as loops."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bakery.run import run

_SECTOR = 512


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


@contextmanager
def attached(disk: Path, partition: Partition | None = None) -> Iterator[str]:
    """Attach a disk file, or one partition of it, as a loop device and give its path."""
    part = ["--offset", partition.offset, "--sizelimit", partition.size] if partition else []
    device = run(["losetup", "--find", "--show", *map(str, part), disk]).stdout.strip()
    try:
        yield device
    finally:
        run(["losetup", "--detach", device], check=False)


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
