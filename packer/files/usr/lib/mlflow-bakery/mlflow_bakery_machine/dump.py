"""A dump as a stream of lines: what is in it, written compressed, verified, read back."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003
from typing import Dict, Iterable, Iterator, Tuple

from mlflow_bakery_machine.files import MachineError

_END = b"-- Dump completed"
_TABLE = re.compile(rb"CREATE TABLE `([^`]+)` \(")
_INSERT = re.compile(rb"INSERT INTO `([^`]+)` VALUES ")
_TEXT = re.compile(rb"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_DEFINER = re.compile(rb"/\*!\d+ DEFINER=`[^`]*`@`[^`]*`\*/|DEFINER=`[^`]*`@`[^`]*`")
_LEVEL = 5  # Higher levels take much longer for a few percent.
_BLOCK = 1 << 20


@dataclass
class Contents:
    """What a dump holds, found while it passes: so it is true of this very dump."""

    rows: Dict[str, int] = field(default_factory=dict)
    """Rows by table, each table of the dump with its own number."""
    revision: str = ""
    whole: bool = False
    size: int = 0
    """Bytes of SQL."""

    def see(self, line: bytes) -> None:
        """Take note of one line; mysqldump writes line breaks inside values as escapes."""
        self.size += len(line)
        self.whole = line.startswith(_END)
        table = _TABLE.match(line)
        if table:
            self.rows.setdefault(table.group(1).decode(), 0)
        insert = _INSERT.match(line)
        if insert:
            values = _TEXT.sub(b"''", line[insert.end() :])
            name = insert.group(1).decode()
            self.rows[name] = self.rows.get(name, 0) + values.count(b"),(") + 1
            if name == "alembic_version":
                self.revision = line[insert.end() :].split(b"'")[1].decode()


@dataclass(frozen=True)
class Written:
    """A compressed file as it lies on the disk."""

    sha256: str
    size: int


def write(lines: Iterable[bytes], path: Path) -> Contents:
    """Compress a dump into a new file, on the disk when this returns."""
    contents = Contents()
    descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        # Without a name and a time in it, the same dump is the same file.
        with gzip.GzipFile("", "wb", fileobj=raw, compresslevel=_LEVEL, mtime=0) as packed:
            for line in lines:
                contents.see(line)
                packed.write(line)
        raw.flush()
        os.fsync(raw.fileno())
    return contents


def measure(path: Path) -> Written:
    """Return the digest and the size of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
            size += len(block)
    return Written(digest.hexdigest(), size)


def unpacked_end(path: Path) -> Tuple[int, bytes]:
    """Unpack a file and return how many bytes came out, and the last of them.

    Raises:
        MachineError: It is damaged or ends early.
    """
    size, end = 0, b""
    try:
        with gzip.open(str(path), "rb") as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                size += len(block)
                end = (end + block)[-200:]
    except (OSError, EOFError, zlib.error) as fault:
        raise MachineError("{} cannot be unpacked: {}".format(path.name, fault)) from None
    return size, end


def is_whole(end: bytes) -> bool:
    """Return whether the end of a dump is the line that mysqldump writes last."""
    lines = end.strip().splitlines()
    return bool(lines) and lines[-1].startswith(_END)


def read(path: Path) -> Iterator[bytes]:
    """Give the lines of a dump; whoever loads them becomes the maker of triggers."""
    with gzip.open(str(path), "rb") as stream:
        for line in stream:
            yield line if _INSERT.match(line) else _DEFINER.sub(b"", line)
