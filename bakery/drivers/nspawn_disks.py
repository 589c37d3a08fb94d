"""Data disks that come and go while a machine of systemd-nspawn runs.

The machine's supervisor shows it a small directory of device nodes. On request it locks a disk's
file, attaches it as a loop device and puts a node there; `ask` is how a driver requests it.
"""

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bakery.disk import attach, hold, loops
from bakery.errors import BakeryError
from bakery.run import run

_SEEN_AS = "/dev/mlflow-disks"
"""Where the machine's guard looks for its data disk, under the name `data`."""
_LEAVING_SECONDS = 5
_ANSWER_SECONDS = 30


class Disks:
    """The data disk of one machine, as its supervisor has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes = folder / "disks"
        self._disk: Path | None = None
        self._lock: int | None = None
        self._loop: int | None = None

    @property
    def bind(self) -> str:
        """The option of systemd-nspawn that shows the nodes to the machine."""
        source = str(self._nodes).replace("\\", "\\\\").replace(":", "\\:")
        return f"--bind={source}:{_SEEN_AS}"

    def make_folder(self) -> None:
        """Make the directory of the nodes, in this process's own mount namespace."""
        self._nodes.mkdir(exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=64k", "disks", self._nodes])

    def listen(self) -> None:
        """Answer requests from now on, in a thread."""
        (self._folder / _SOCKET).unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        with _reachable(self._folder) as path:
            server.bind(path)
        (self._folder / _SOCKET).chmod(0o600)
        server.listen()
        threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def attach(self, disk: Path) -> None:
        """Show a disk to the machine; nothing to do when it has it.

        Raises:
            BakeryError: Another machine has it, or this one has another.
        """
        if self._disk not in {None, disk}:
            raise BakeryError(f"the machine has {self._disk} already")
        if self._lock is None:
            self._lock, self._disk = hold(disk), disk
        if self._loop is None:
            self._loop = self._open(disk)
        self._make_node(os.fstat(self._loop).st_rdev)

    def detach(self) -> None:
        """Let the disk go.

        Raises:
            BakeryError: The machine has it mounted; then it stays locked.
        """
        if self._disk is None or self._lock is None:
            return
        (self._nodes / "data").unlink(missing_ok=True)
        if self._loop is not None:
            os.close(self._loop)
            self._loop = None
        deadline = time.monotonic() + _LEAVING_SECONDS
        while loops(self._disk):
            if time.monotonic() > deadline:
                raise BakeryError(f"the machine still uses {self._disk}")
            time.sleep(0.02)
        os.close(self._lock)
        self._lock = self._disk = None

    def _open(self, disk: Path) -> int:
        """Return the disk's loop device: a new one, or the one that the machine still has."""
        for device in loops(disk):
            return os.open(device, os.O_RDWR)
        try:
            return attach(disk)[1]
        except BakeryError:
            self.detach()
            raise

    def _make_node(self, number: int) -> None:
        part, node = self._nodes / ".data", self._nodes / "data"
        part.unlink(missing_ok=True)
        os.mknod(part, stat.S_IFBLK | 0o600, number)
        part.rename(node)

    def _serve(self, server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_ANSWER_SECONDS)
                words = json.loads(connection.makefile().readline() or "[]")
                connection.sendall(json.dumps(self._answer(words)).encode())

    def _answer(self, words: list[str]) -> str:
        """Do what is asked and return what went wrong, or nothing."""
        try:
            if words[:1] == ["attach"]:
                self.attach(Path(words[1]))
            elif words[:1] == ["detach"]:
                self.detach()
        except (BakeryError, OSError) as error:
            return " ".join(filter(None, (str(error), getattr(error, "tail", ""))))
        return ""


_SOCKET = "control"


def ask(folder: Path, *words: object) -> None:
    """Ask the supervisor whose machine has this folder.

    Raises:
        BakeryError: It refuses, or there is none.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client, _reachable(folder) as path:
            client.settimeout(_ANSWER_SECONDS)
            client.connect(path)
            client.sendall((json.dumps([str(word) for word in words]) + "\n").encode())
            said = client.makefile().read()
    except OSError as error:
        raise BakeryError(
            f"the machine's supervisor does not answer: {error}", log=folder / "console.log"
        ) from error
    refusal = json.loads(said) if said else "it ended meanwhile"
    if refusal:
        raise BakeryError(f"the data disk cannot be {words[0]}ed: {refusal}")


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """Give a path of the socket that is short enough: the system allows 107 bytes."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{_SOCKET}"
    finally:
        os.close(directory)
