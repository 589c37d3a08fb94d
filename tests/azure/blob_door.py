"""A door in front of Azurite: what is written to Blob is counted there, and goes wrong at will."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from bakery import azurite
from tests.azure import faults
from tests.azure.doors import DoorHandler, Server, serving
from tests.azure.routing import Call


class Door:
    """Passes on what it is asked, as it is: signatures do not cover the address."""

    def __init__(self, inner: str) -> None:
        """Take the address that Azurite listens at."""
        self.inner = inner
        self.faults = faults.Faults()
        self.writes: list[str] = []
        """What was written, as METHOD path, the path without the account's name."""


class _Handler(DoorHandler):
    door: Door

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = self._what()
        planned = self.door.faults.at(what) if what else []
        if what:
            self.door.writes.append(f"{what.method} {what.path}")
        for fault in planned:
            if not fault.after and self._befall(fault):
                return
        status, headers, answer = self._asked(body)
        for fault in planned:
            if fault.after and self._befall(fault):
                return
        self.answer(status, headers, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 (the library's names)

    def _what(self) -> Call | None:
        """Return what is written, without what differs from run to run; None: nothing is."""
        if self.command in {"GET", "HEAD"}:
            return None
        parts = urlsplit(self.path)
        words = [parts.path.split("/", 2)[-1], *parse_qs(parts.query).get("comp", [])]
        words += [value for value in [self.headers.get("x-ms-lease-action")] if value]
        return Call(self.command, " ".join(words), {}, {}, None, "")

    def _befall(self, fault: faults.Fault) -> bool:
        """Let something go wrong; return whether nothing more is to be done."""
        if fault.action == "answer":
            self.answer_error(fault.status, fault.code, fault.message, [])
            return True
        if fault.action == "kill":
            faults.kill_peer(self.client_address[1], self.connection.getsockname()[1])
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        inner = http.client.HTTPConnection(self.door.inner, azurite.PORT, timeout=30)
        with contextlib.closing(inner):
            headers = {
                name: value for name, value in self.headers.items() if name.lower() != "connection"
            }
            inner.request(self.command, self.path, body, headers)
            found = inner.getresponse()
            return found.status, found.getheaders(), found.read()


@contextlib.contextmanager
def opened(address: str, inner: str) -> Iterator[Door]:
    """Open a door at the same port of another address, until the end of the block."""
    door = Door(inner)
    handler = type("Handler", (_Handler,), {"door": door})
    with Server((address, azurite.PORT), handler) as server, serving(server):
        yield door
