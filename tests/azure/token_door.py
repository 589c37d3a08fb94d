"""A door in front of Azurite that takes tokens, over HTTPS, and no keys.

Azurite itself takes tokens only where it is asked to over HTTPS, and then any; here they must be
those that the fake gave out, and are traded for a signature that only the door can make.
"""

import base64
import contextlib
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bakery import azurite, tls
from tests.azure.doors import DoorHandler, Server, serving
from tests.azure.login import Tokens
from tests.azure.refusal import Refusal

_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


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


class _Handler(DoorHandler):
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
            self.answer(found.status, found.getheaders(), found.read())

    def _refuse(self, status: int, code: str) -> None:
        login = ("WWW-Authenticate", 'Bearer authorization_uri="https://login/common"')
        self.answer_error(status, code, code, [login] if status == 401 else [])


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


@contextlib.contextmanager
def opened(address: str, door: TokenDoor, authority: Path) -> Iterator[None]:
    """Open the door at an address; `authority` is the folder of who signs its certificate."""
    made = tls.local_certificate(authority, "localhost", address)
    both = authority / f"{address}.pem"
    both.touch(mode=0o600)
    both.write_text(made.chain + made.key, encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    handler = type("Handler", (_Handler,), {"door": door})
    with Server((address, azurite.PORT), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with serving(server):
            yield
