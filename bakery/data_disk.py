"""The data disk's file: made once, copied before a replacement, set back after a failed one.

Nothing is read or copied while a machine has it: the lock on the file, which the machine's
supervisor holds, says so.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bakery import pool
from bakery.errors import BakeryError, InputError
from bakery.run import run

# What an older image cannot read once a newer one has changed it: the schema, MySQL's own files.
_RECORDS = ("/state/migration.json", "/mysql/data/mysql_upgrade_history")


@dataclass(frozen=True)
class DataDisk:
    """A deployment's data disk and, beside it, its copies."""

    path: Path

    @property
    def snapshot(self) -> Path:
        """The copy from before the replacement that is under way."""
        return self.path.with_suffix(".before.raw")

    @property
    def undone(self) -> Path:
        """What the last generation that was undone had made of it, if that was set back."""
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
        words = ["losetup", "--noheadings", "--output", "NAME", "--associated"]
        for loop in run([*words, self.path]).stdout.split():
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

    def take_snapshot(self) -> None:
        """Copy the disk as it is; no machine may have it.

        Raises:
            BakeryError: A machine has it.
        """
        with _unused(self.path):
            pool.copy(self.path, self.snapshot)

    def changed(self) -> bool:
        """Return whether a migration began since the snapshot: of MLflow's schema or of MySQL.

        Raises:
            BakeryError: A machine has the disk.
        """
        if not self.snapshot.exists():
            return False
        with _unused(self.path):
            return _records(self.path) != _records(self.snapshot)

    def set_back(self) -> bool:
        """Put the snapshot in the disk's place if a migration began since; return whether.

        What it replaces is kept as `undone`: nobody can be sure that no client was served from it.

        Raises:
            BakeryError: A machine has the disk.
        """
        if not self.changed():
            return False
        # A second name first: a kill in between leaves the disk itself in its place.
        self.undone.unlink(missing_ok=True)
        os.link(self.path, self.undone)
        self.snapshot.replace(self.path)
        return True

    def forget_snapshot(self) -> None:
        """Remove the snapshot, whole or not."""
        for path in (self.snapshot, self.snapshot.with_name(self.snapshot.name + ".part")):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the disk and every copy."""
        self.forget_snapshot()
        self.undone.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def _unused(disk: Path) -> Iterator[None]:
    file = os.open(disk, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BakeryError(f"{disk} is in use by a machine", hint="./inv stop") from error
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
