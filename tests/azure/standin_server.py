"""The front door of a stand-in machine: what a client and the checks of the product ask."""

import base64
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import bcrypt

from bakery.checks.door import SERIAL

_DENIED = ("/metrics", "/gateway", "/ajax-api/3.0/mlflow/assistant", "/api/3.0/mlflow/assistant")


@dataclass(frozen=True)
class Site:
    """What a machine serves now."""

    environment: dict[str, Any]
    data: Path
    admitted: bool
    broken: bool = False
    """The database does not answer."""


class Front(http.server.BaseHTTPRequestHandler):
    """The answers of MLflow behind Traefik, as far as anybody here asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Callable[[], Site]

    def do_GET(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        site = type(self).site()
        path = urlsplit(self.path).path
        if self.headers["Host"] != site.environment["hostname"]:
            self.answer(404)
        elif not self.let_in(site):
            self.answer(503, headers={"Retry-After": "5"})
        elif path == "/health":
            self.answer(200, "OK")
        elif not self.logged_in(site):
            self.answer(401, headers={"WWW-Authenticate": 'Basic realm="MLflow"'})
        elif path.startswith(_DENIED) or self.foreign(site):
            self.answer(403)
        elif path.startswith("/api/"):
            self.api(site, path)
        else:
            self.answer(200, "<title>MLflow</title>")

    do_POST = do_GET  # noqa: N815 (the library's names)

    def let_in(self, site: Site) -> bool:
        token = site.environment.get("check_token")
        return site.admitted or not token or self.headers["X-Bakery-Check"] == token

    def logged_in(self, site: Site) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        name, _, password = base64.b64decode(given).decode().partition(":")
        digest = site.environment["users"].get(name)
        return digest is not None and _matches(password, digest)

    def foreign(self, site: Site) -> bool:
        origin = self.headers["Origin"]
        return origin is not None and origin != f"https://{site.environment['hostname']}"

    def api(self, site: Site, path: str) -> None:
        if site.broken:
            self.answer(500, '{"error_code": "INTERNAL_ERROR"}')
        elif path == "/api/2.0/mlflow/experiments/create":
            add_experiment(site.data, json.loads(self._body)["name"])
            self.answer(200, '{"experiment_id": "1"}')
        elif path == "/api/2.0/mlflow/experiments/search":
            most = int(parse_qs(urlsplit(self.path).query).get("max_results", ["1000"])[0])
            found = [{"name": name} for name in experiments(site.data)]
            self.answer(200, json.dumps({"experiments": found[:most]}))
        else:
            self.answer(404, '{"error_code": "ENDPOINT_NOT_FOUND"}')

    def answer(self, code: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(code)
        if code == 200:
            self.send_header(SERIAL, str(type(self).site().environment["serial"]))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Redirect(Front):
    """The answers of port 80."""

    def do_GET(self) -> None:
        hostname = type(self).site().environment["hostname"]
        self.answer(308, headers={"Location": f"https://{hostname}{self.path}"})


@lru_cache(maxsize=4096)
def _matches(password: str, digest: str) -> bool:
    return bcrypt.checkpw(password.encode(), digest.encode())


def experiments(data: Path) -> list[str]:
    """Return the names of the experiments on a data disk."""
    try:
        return list(json.loads((data / "experiments.json").read_text(encoding="utf-8")))
    except OSError:
        return ["Default"]


def add_experiment(data: Path, name: str) -> None:
    """Write an experiment and the counts to a data disk."""
    found = [*experiments(data), name]
    (data / "experiments.json").write_text(json.dumps(found), encoding="utf-8")
    write_counts(data)


def write_counts(data: Path) -> None:
    """Write how many rows there are, as `duty count` tells it."""
    counts = {"experiments": len(experiments(data)), "runs": 0}
    (data / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that broke off."""


@contextlib.contextmanager
def serving(address: str, site: Callable[[], Site], pem: Path) -> Iterator[None]:
    """Answer at the ports 443 and 80 of an address until the end of the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with contextlib.ExitStack() as stack:
        for port, handler in ((443, Front), (80, Redirect)):
            bound = type("Bound", (handler,), {"site": staticmethod(site)})
            server = stack.enter_context(_Server((address, port), bound))
            if port == 443:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield
