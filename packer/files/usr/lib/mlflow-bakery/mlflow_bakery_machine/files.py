"""Files that are there whole or not at all, with their owner and mode."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003


class MachineError(Exception):
    """Something that an operator has to look at; the message says what and why."""


@dataclass(frozen=True)
class Rendered:
    """The wished content of one file."""

    content: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


def write_file(path: Path, file: Rendered) -> None:
    """Write a file so that a kill at any moment leaves the old or the new one, never a part."""
    temporary = path.with_name("." + path.name + ".new")
    if temporary.exists():
        temporary.unlink()
    descriptor = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(file.content)
        stream.flush()
        _own(stream.fileno(), file.uid, file.gid)
        os.fchmod(stream.fileno(), file.mode)
        os.fsync(stream.fileno())
    os.replace(str(temporary), str(path))
    sync_directory(path.parent)


def make_directory(path: Path, *, uid: int = 0, gid: int = 0, mode: int = 0o700) -> None:
    """Make a directory, or give an existing one this owner and mode."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _own(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def empty_directory(path: Path) -> None:
    """Remove what is in a directory, not the directory itself: it may be mounted."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        else:
            entry.unlink()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(descriptor: int, uid: int, gid: int) -> None:
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
