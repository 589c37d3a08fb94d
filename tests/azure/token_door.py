"""A door in front of Azurite that takes tokens, over HTTPS, and no keys.

Azurite itself takes tokens only where it is asked to over HTTPS, and then any; here they must be
those that the fake gave out, and are traded for a signature that only the door can make.
"""

import base64
import contextlib
import hashlib
import hmac
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bakery import azurite, tls
from tests.azure.login import Tokens
from tests.azure.refusal import Refusal

_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip
_ERROR = '<?xml version="1.0" encoding="utf-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass
class TokenDoor:
    """What the door knows, and what it saw."""

    inner: str
    """The address that Azurite listens at."""
    tokens: Tokens
    key: Callable[[str], str]
    """Gives the key of an account, which nobody else is told."""
    may: bool = True
    """The caller has the role Storage Blob Data Contributor."""
    seen: list[str] = field(default_factory=list)
    """How each request signed in: `Bearer`, `SharedKey` or nothing."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    door: TokenDoor

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.headers.get("Authorization", "")
        self.door.seen.append(given.partition(" ")[0])
        if given.startswith("SharedKey"):
            self._refuse(403, "KeyBasedAuthenticationNotPermitted")
            return
        try:
            self.door.tokens.check(given)
        except Refusal:
            self._refuse(401, "InvalidAuthenticationInfo")
            return
        if not self.door.may:
            self._refuse(403, "AuthorizationPermissionMismatch")
            return
        self._pass_on(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 (the library's names)

    def _pass_on(self, body: bytes) -> None:
        left_out = {"authorization", "connection", "host"}
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers = {name: value for name, value in headers.items() if name not in left_out}
        headers.setdefault("x-ms-date", formatdate(usegmt=True))
        account = urlsplit(self.path).path.split("/")[1]
        headers["authorization"] = signature(
            self.command, self.path, headers, account, self.door.key(account)
        )
        with contextlib.closing(HTTPConnection(self.door.inner, azurite.PORT, timeout=30)) as inner:
            inner.request(self.command, self.path, body or None, headers)
            found = inner.getresponse()
            self._answer(found.status, found.getheaders(), found.read())

    def _refuse(self, status: int, code: str) -> None:
        headers = [("Content-Type", "application/xml"), ("x-ms-error-code", code)]
        if status == 401:
            headers.append(("WWW-Authenticate", 'Bearer authorization_uri="https://login/common"'))
        self._answer(status, headers, _ERROR.format(code, code).encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        length = str(len(body))
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in {"connection", "keep-alive", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def signature(method: str, path: str, headers: dict[str, str], account: str, key: str) -> str:
    """Return the header that signs a request with an account's key."""
    plain = [headers.get(name, "") for name in _SIGNED]
    plain[2] = "" if plain[2] == "0" else plain[2]
    own = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    parts = urlsplit(path)
    query = [f"{name}:{value}" for name, value in sorted(parse_qsl(parts.query))]
    text = "\n".join([method, *plain, *own, f"/{account}{parts.path}", *query])
    made = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return f"SharedKey {account}:{base64.b64encode(made).decode()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that broke off."""


@contextlib.contextmanager
def opened(address: str, door: TokenDoor, authority: Path) -> Iterator[None]:
    """Open the door at an address; `authority` is the folder of who signs its certificate."""
    made = tls.local_certificate(authority, "localhost", address)
    both = authority / f"{address}.pem"
    both.touch(mode=0o600)
    both.write_text(made.chain + made.key, encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with _Server((address, azurite.PORT), type("Handler", (_Handler,), {"door": door})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
