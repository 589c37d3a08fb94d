"""Cache entries that are there whole or not at all, whatever ends the process that makes them."""

import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bakery.errors import BakeryError


def build(entry: Path, make: Callable[[Path], None]) -> Path:
    """Return the directory `entry`; when it is not there, `make` fills a new one first.

    Two processes that want the same entry make it once. What a killed one left is removed by the
    next that wants it.

    Raises:
        BakeryError: The disk is full.
    """
    if entry.is_dir():
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _locked(entry.parent / f".{entry.name}.lock"):
        if not entry.is_dir():
            part = entry.parent / f".{entry.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            try:
                make(part)
                part.rename(entry)
            except OSError as failed:
                if failed.errno != errno.ENOSPC:
                    raise
                raise BakeryError(
                    f"no space left in {entry.parent}",
                    hint="nothing was kept; free some, and again",
                ) from failed
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return entry


def digest(value: object) -> str:
    """Return "sha256:..." of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return "sha256:..." of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(paths: Iterable[Path], *, base: Path) -> str:
    """Return "sha256:..." of files and of all files below folders: names, bytes, who may run."""
    files = [
        file
        for path in paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    return digest(
        [
            [str(file.relative_to(base)), file_digest(file), bool(file.stat().st_mode & 0o100)]
            for file in sorted(files)
        ]
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
