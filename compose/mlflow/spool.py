"""Bounds and clears the spool: an artifact lies on the machine's own disk on its way.

An upload is let in when the disk has room for what it is going to write and for what all others
under way, of every worker, have yet to write; a reserve is never given away. One that does not
fit gets 507, which MLflow's client does not repeat, and everything else goes on.

Each request has a folder of its own that ends with it. MLflow itself leaves its copy behind, and
open, when a client hangs up in the middle of a download, until Python happens to look for garbage.
"""

import errno
import fcntl
import json
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

RESERVE = 1 << 30
"""Bytes of the disk that uploads leave to the system, its logs and its containers."""

_OF_REQUEST: ContextVar[str] = ContextVar("folder of a request", default="")

_ROW = struct.Struct("=qq")
_ROWS = 64

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Promised:
    """The bytes that uploads under way have yet to write, of all workers together.

    A table in memory that forked processes share: process, bytes. What a killed worker was
    promised is forgotten with it, and so is its lock.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("promised")
        os.ftruncate(self._file, _ROWS * _ROW.size)
        self._table = mmap.mmap(self._file, _ROWS * _ROW.size)

    def take(self, size: int, room: Callable[[], int]) -> bool:
        """Promise `size` bytes, if they fit into the room beside all other promises."""
        with self._rows() as rows:
            if sum(rows.values()) + size > room():
                return False
            rows[os.getpid()] = rows.get(os.getpid(), 0) + size
        return True

    def give_back(self, size: int) -> None:
        """Take back a promise, or the part of it that is written."""
        with self._rows() as rows:
            rows[os.getpid()] = max(0, rows.get(os.getpid(), 0) - size)

    def total(self) -> int:
        """Return the bytes promised to workers that live."""
        with self._rows() as rows:
            return sum(rows.values())

    @contextmanager
    def _rows(self) -> Iterator[dict[int, int]]:
        # Of the process, so it ends with it; within a worker there is one thread that comes here.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            rows = {pid: size for pid, size in _ROW.iter_unpack(self._table[:]) if _lives(pid)}
            yield rows
            packed = b"".join(_ROW.pack(*row) for row in rows.items() if row[1])
            self._table[:] = packed.ljust(len(self._table), b"\0")
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class Spool:
    """Wraps MLflow: uploads of artifacts pass when there is room for them."""

    def __init__(self, app: App, promised: Promised, folder: Path) -> None:
        self.app = app
        self.promised = promised
        self.folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        # The next request of a connection begins in the context of the one before.
        _OF_REQUEST.set("")
        if scope["type"] == "lifespan":
            use_own_folder(self.folder)
        if not _is_artifact(scope):
            await self.app(scope, receive, send)
            return
        if scope["method"] == "PUT":
            await self._upload(scope, receive, send)
            return
        with _folder_of_a_request():
            await self.app(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = _length(scope)
        if not self.promised.take(length or 0, self.room):
            await _refuse(scope, receive, send)
            return
        upload = _Upload(self, receive, length)
        try:
            with _folder_of_a_request():
                await self.app(scope, upload.receive, send)
        except Exception as error:
            if not upload.full and not _no_space(error):
                raise
            await _refuse(scope, receive, send)
        finally:
            self.promised.give_back(upload.left)

    def room(self) -> int:
        """Return the bytes that uploads may still take, promises not counted."""
        return shutil.disk_usage(self.folder).free - RESERVE


class _Upload:
    """One body as it arrives: what has come is on the disk and needs no promise any more."""

    def __init__(self, spool: Spool, receive: Receive, length: int | None) -> None:
        self._spool = spool
        self._receive = receive
        self._length = length
        self.left = length or 0
        self.full = False

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        if self._length is None:
            # Nobody knows how long it will be: each piece must fit when it comes.
            self.full = not self._spool.promised.take(size, self._spool.room)
            if self.full:
                raise OSError(errno.ENOSPC, "the spool is full")
            self._spool.promised.give_back(size)
        else:
            written = min(size, self.left)
            self.left -= written
            self._spool.promised.give_back(written)
        return message


def use_own_folder(spool: Path) -> None:
    """Give this worker a folder of its own in the spool, and remove those of dead ones."""
    for folder in spool.iterdir():
        if folder.name == str(os.getpid()) or not (folder.name.isdigit() and _lives(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
    own = spool / str(os.getpid())
    own.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(own)
    tempfile.gettempdir = _temporary_folder


@contextmanager
def _folder_of_a_request() -> Iterator[None]:
    """Give what a request makes in the spool a folder that is removed with it."""
    folder = tempfile.mkdtemp(prefix="request-")
    token = _OF_REQUEST.set(folder)
    try:
        yield
    finally:
        _OF_REQUEST.reset(token)
        _give_up(Path(folder))


def _give_up(folder: Path) -> None:
    """Remove a folder and free its blocks, even of a file that nobody closes before long."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                os.truncate(path, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> str:
    """Take the place of tempfile.gettempdir: threads that a request starts know its folder."""
    return _OF_REQUEST.get() or str(tempfile.tempdir)


def _lives(process: int | str) -> bool:
    return int(process) > 0 and Path(f"/proc/{process}").exists()


def _is_artifact(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in {"GET", "PUT"}
        and ("/mlflow-artifacts/artifacts/" in scope["path"] or _is_for_the_page(scope["path"]))
    )


def _is_for_the_page(path: str) -> bool:
    """Return whether it is the route by which MLflow's pages show and download an artifact."""
    return path.endswith("/get-artifact")


def _header(scope: Scope, name: bytes) -> str:
    found = (value for key, value in scope["headers"] if key == name)
    return bytes(next(found, b"")).decode("latin-1")


def _length(scope: Scope) -> int | None:
    text = _header(scope, b"content-length")
    return int(text) if text.isdecimal() else None


def _no_space(error: BaseException) -> bool:
    """Return whether the disk was full, in a single error or in a group of them."""
    if isinstance(error, BaseExceptionGroup):
        return any(_no_space(one) for one in error.exceptions)
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 507 once the whole body is thrown away: most clients read no answer before that."""
    more = _header(scope, b"expect").lower() != "100-continue"
    while more:
        more = bool((await receive()).get("more_body", False))
    text = (
        "The server has no room for this upload on its way to the artifact store: its spool is "
        "full. Metrics and parameters are not affected; try again when other uploads have ended."
    )
    body = json.dumps({"error_code": "INSUFFICIENT_STORAGE", "message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 507, "headers": headers})
    await send({"type": "http.response.body", "body": body})
