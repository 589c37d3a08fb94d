"""The data disk's file: made once, copied before a replacement, set back after a failed one.

Nothing is read or copied while a machine has it: the lock on the file, which the machine's
supervisor holds, says so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bakery import pool
from bakery.disk import hold, loops
from bakery.errors import BakeryError, InputError
from bakery.run import run

# What an older image cannot read once a newer one has changed it: the schema, MySQL's own files.
_RECORDS = ("/state/migration.json", "/mysql/data/mysql_upgrade_history")


@dataclass(frozen=True)
class DataDisk:
    """A deployment's data disk and, beside it, its copies."""

    path: Path

    def snapshot(self, generation: int) -> Path:
        """Return the copy from before a generation got the disk."""
        return self.path.with_suffix(f".before-{generation}.raw")

    @property
    def undone(self) -> Path:
        """What the last snapshot that was put back has replaced."""
        return self.path.with_suffix(".undone.raw")

    def make(self, gib: int) -> None:
        """Make an empty disk unless there is one; the machine formats it, once."""
        if self.path.exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            file.truncate(gib << 30)
        part.rename(self.path)

    def grow(self, gib: int) -> bool:
        """Make the disk larger, also under a machine; return whether it was smaller.

        Raises:
            InputError: It is larger: it never shrinks.
        """
        self.check_growth(gib)
        if not self.path.exists() or self.path.stat().st_size == gib << 30:
            return False
        os.truncate(self.path, gib << 30)
        for loop in loops(self.path):
            run(["losetup", "--set-capacity", loop])
        return True

    def check_growth(self, gib: int) -> None:
        """Refuse to make the disk smaller.

        Raises:
            InputError: It is larger than that.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        if size > gib << 30:
            raise InputError(
                f"the data disk has {size / 2**30:g} GiB, and it never shrinks to {gib}",
                hint=f"data_disk_gib = {-(-size >> 30)}, or leave it out",
            )

    def check_owner(self, uuid: str) -> None:
        """Refuse a disk with something on it that is not this deployment's.

        Raises:
            InputError: Says what it is; it was not touched.
        """
        if not self.path.exists():
            return
        done = run(["blkid", "-p", "-o", "export", self.path], check=False)
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        if done.returncode != 2 and found.get("UUID", "").lower() != uuid:
            raise InputError(
                f"{self.path} is not this deployment's data disk: it has"
                f" {found.get('TYPE', 'several signatures')} {found.get('UUID', '')},"
                f" wanted is ext4 {uuid}; it was not touched",
                hint="put the right file in its place; another deployment's belongs to that name",
            )

    def take_snapshot(self, generation: int) -> None:
        """Copy the disk as it is; no machine may have it. What an earlier undo left, goes.

        Raises:
            BakeryError: A machine has it.
        """
        with _unused(self.path):
            pool.copy(self.path, self.snapshot(generation))
        self.undone.unlink(missing_ok=True)

    def changed(self, generation: int) -> bool:
        """Return whether a migration began since a snapshot: of MLflow's schema or of MySQL.

        Raises:
            BakeryError: A machine has the disk.
        """
        snapshot = self.snapshot(generation)
        if not snapshot.exists():
            return False
        with _unused(self.path):
            return _records(self.path) != _records(snapshot)

    def restore(self, generation: int) -> None:
        """Put a copy of a snapshot in the disk's place; what that replaces is kept as `undone`.

        Raises:
            BakeryError: There is no such snapshot, or a machine has the disk.
        """
        snapshot = self.snapshot(generation)
        if not snapshot.exists():
            raise BakeryError(f"there is no snapshot of before generation {generation}")
        with _unused(self.path):
            # A second name first: a kill in between leaves the disk itself in its place.
            self.undone.unlink(missing_ok=True)
            os.link(self.path, self.undone)
            pool.copy(snapshot, self.path)

    def snapshots(self) -> set[int]:
        """Return the numbers of the generations before which a copy was made."""
        found = self.path.parent.glob(f"{self.path.stem}.before-*.raw")
        return {int(path.stem.rpartition("-")[2]) for path in found}

    def forget_snapshots(self, *, but: set[int]) -> None:
        """Remove all snapshots, whole or not, but those of these generations."""
        kept = {self.snapshot(number).name for number in but}
        for path in self.path.parent.glob(f"{self.path.stem}.before-*.raw*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the disk and every copy."""
        self.forget_snapshots(but=set())
        self.undone.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def _unused(disk: Path) -> Iterator[None]:
    file = hold(disk)
    try:
        yield
    finally:
        os.close(file)


def _records(disk: Path) -> list[str]:
    # After a crash the records may be in the journal only; 1 means mended.
    run(["e2fsck", "-p", disk], check=False)
    return [read_file(disk, name) for name in _RECORDS]


def read_file(disk: Path, name: str, offset: int = 0) -> str:
    """Return a text file in an ext4 file system that nobody has mounted; empty without one.

    `offset` is where the file system begins in the disk, in bytes.
    """
    where = f"{disk}?offset={offset}" if offset else str(disk)
    return run(["debugfs", "-R", f"cat {name}", where], check=False).stdout
