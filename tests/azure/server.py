"""The plumbing: HTTPS/1.1 on loopback, JSON in and out, the log, the faults."""

import contextlib
import http.server
import json
import socket
import ssl
import time
import traceback
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.azure import (
    addresses,
    admin,
    bodies,
    disks,
    faults,
    galleries,
    identity,
    network,
    offers,
    routing,
    run_commands,
    storage,
    subscription,
    vm_actions,
    vms,
)
from tests.azure.doors import Server, serving
from tests.azure.refusal import Refusal
from tests.azure.routing import Call, Reply

if TYPE_CHECKING:
    from tests.azure.fake import Fake
    from tests.azure.faults import Fault
    from tests.azure.journal import Entry

# Importing them is what makes their operations known.
_NOUNS = (addresses, admin, disks, galleries, identity, network, offers, run_commands, storage,
          subscription, vm_actions, vms)  # fmt: skip
_OPEN = ("/_fake/", "/_github/", "/api/retail/", "/common/discovery/")
"""Paths that no token is needed for."""


class _DroppedError(Exception):
    """The connection is closed without an answer."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: "Fake"

    def setup(self) -> None:
        # Here and not where it is accepted: a slow handshake must not hold up the others.
        self.request.settimeout(60)
        with contextlib.suppress(ssl.SSLError, OSError):
            self.request.do_handshake()
        super().setup()

    def handle_any(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(_handled(self.fake, self._call(raw), self._ends()))
        except _DroppedError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = handle_any  # noqa: N815 (the library's names)
    do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _ends(self) -> tuple[int, int]:
        """Return the ports that the caller and we have on this connection."""
        return self.client_address[1], self.connection.getsockname()[1]

    def _call(self, raw: bytes) -> Call:
        parts = urllib.parse.urlsplit(self.path)
        pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        return Call(
            method=self.command,
            path=urllib.parse.unquote(parts.path),
            query=dict(pairs),
            headers={key.lower(): value for key, value in self.headers.items()},
            body=_parsed(raw, self.headers.get("Content-Type") or ""),
            base=f"https://{self.headers['Host']}",
        )

    def _answer(self, reply: Reply) -> None:
        text = isinstance(reply.body, str)
        body = b"" if reply.body is None else (
            reply.body.encode() if text else json.dumps(reply.body).encode()
        )  # fmt: skip
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _parsed(raw: bytes, kind: str) -> Any:
    if not raw:
        return None
    if "urlencoded" in kind:
        return dict(urllib.parse.parse_qsl(raw.decode()))
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")


def _handled(fake: "Fake", call: Call, ends: tuple[int, int]) -> Reply:
    """Answer a call, write it down, and let go wrong what shall."""
    if call.path.startswith("/_fake/"):
        return _guarded(fake, call)
    entry = fake.journal.begin(call.method, call.path, call.query.get("api-version", ""), call.body)
    time.sleep(fake.options.latency)
    planned = fake.faults.at(call)
    for fault in planned:
        entry.fault = fault.action
        if not fault.after:
            reply = _befall(fault, ends, entry)
            if reply is not None:
                fake.journal.end(entry, reply.status, reply.body)
                return reply
    reply = _guarded(fake, call)
    fake.journal.end(entry, reply.status, reply.body)
    for fault in planned:
        if fault.after:
            late = _befall(fault, ends, entry)
            reply = late or reply
    return reply


def _befall(fault: "Fault", ends: tuple[int, int], entry: "Entry") -> Reply | None:
    if fault.action == "answer":
        return Reply(fault.status, fault.refusal.body, fault.refusal.headers)
    if fault.action == "delay":
        time.sleep(fault.seconds)
    if fault.action == "kill":
        faults.kill_peer(*ends)
    if fault.action in {"drop", "kill"}:
        entry.seconds = round(time.time() - entry.began, 4)
        raise _DroppedError
    return None


def _guarded(fake: "Fake", call: Call) -> Reply:
    try:
        return _dispatched(fake, call)
    except Refusal as refusal:
        return Reply(refusal.status, refusal.body, refusal.headers)
    except _DroppedError:
        raise
    except Exception as error:  # noqa: BLE001 (a bug here must not look like a dead network)
        fake.log(traceback.format_exc())
        return Reply(500, Refusal(500, "BugOfTheFake", repr(error)).body)


def _dispatched(fake: "Fake", call: Call) -> Reply:
    open_to_all = call.path.startswith(_OPEN) or "/v2.0/" in call.path
    if not open_to_all:
        fake.tokens.check(call.headers.get("authorization", ""))
    version = call.query.get("api-version", "")
    one, names = routing.find(call.method, call.path, version)
    call = Call(**{**vars(call), "names": names, "version": version})
    with fake.world.lock:
        if not open_to_all:
            fake.world.check_place(call)
        if one.kind is not None:
            if not isinstance(call.body, dict):
                raise Refusal(400, "InvalidRequestContent", "the body is not a JSON object")
            bodies.check(call.body, one.kind)
        reply = one.handler(fake, call)
    if call.method != "GET" and not open_to_all:
        fake.world.save()
    return reply


@contextmanager
def answering(fake: "Fake", port: int = 0) -> Iterator[None]:
    """Let a fake answer on loopback."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    both = fake.folder / "tls" / "both.pem"
    both.touch(mode=0o600)
    both.write_text(fake.certificate.chain + fake.certificate.key, encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with Server(("127.0.0.1", port), handler) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        fake.url = f"https://127.0.0.1:{server.server_address[1]}"
        with serving(server):
            yield
