"""A small server that behaves as a deployed one should at its front door, or has one fault."""

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from bakery.checks.door import Door, Login
from bakery.tls import ca_file, local_certificate

HOSTNAME = "mlflow.check.test"
LOGIN = Login("m\u00fcller", SecretStr(" p\u00e4ss:w\u00f6rd$'\"\\ "))


class Front(http.server.BaseHTTPRequestHandler):
    """The answers of the front door."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    faults: frozenset[str] = frozenset()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.headers["Host"] != HOSTNAME and "any host" not in self.faults:
            self.answer(404)
        elif path == "/health":
            self.answer(401 if "health shut" in self.faults else 200, "OK")
        elif path == "/healthz" and "open beside health" in self.faults:
            self.answer(200)
        elif not self.may_enter():
            self.answer(401, login="no login asked" not in self.faults)
        elif path in self.shut_paths():
            self.answer(403)
        elif path == "/":
            self.answer(200, "something else" if "other page" in self.faults else "<b>MLflow</b>")
        elif path.startswith("/api/"):
            self.answer_api()
        else:
            self.answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        own = self.headers["Origin"] == f"https://{HOSTNAME}"
        allowed = (own and "no origin" not in self.faults) or "any origin" in self.faults
        self.answer(200 if allowed else 403)

    def answer_api(self) -> None:
        if "database down" in self.faults:
            self.answer(503, "the database is away")
        elif "other service" in self.faults:
            self.answer(200, "<html>")
        else:
            self.answer(200, json.dumps({"experiments": [{"name": "Default"}]}))

    def shut_paths(self) -> set[str]:
        near = self.headers["X-Forwarded-For"] == "127.0.0.1"
        shut = {"/metrics", "/gateway/", "/ajax-api/3.0/mlflow/assistant"}
        if "no entry at all" in self.faults:
            return {*shut, "/version"}
        if "trusts forwarded" in self.faults and near:
            return set()
        return shut - {fault for fault in self.faults if fault.startswith("/")}

    def may_enter(self) -> bool:
        if "no login" in self.faults:
            return True
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        name, _, password = base64.b64decode(given).decode().partition(":")
        right = LOGIN.password.get_secret_value()
        if "any user" in self.faults and password == right:
            return True
        if "prefix is enough" in self.faults and password and right.startswith(password):
            return True
        if "any password" in self.faults and name == LOGIN.username:
            return True
        return (name, password) == (LOGIN.username, right) and "nobody" not in self.faults

    def answer(self, code: int, text: str = "", *, login: bool = True) -> None:
        body = text.encode()
        self.send_response(code)
        if code == 401 and login:
            self.send_header("WWW-Authenticate", 'Basic realm="MLflow"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Redirect(Front):
    """The answers of port 80."""

    def do_GET(self) -> None:
        if "serves plain" in self.faults:
            self.answer(200, "hello")
            return
        host = "evil.example" if "redirects elsewhere" in self.faults else HOSTNAME
        self.send_response(308)
        self.send_header("Location", f"https://{host}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(
    handler: type[Front], faults: set[str], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    faulty = type("Faulty", (handler,), {"faults": frozenset(faults)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), faulty) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        # A client that breaks off its handshake is part of the tests, not worth a traceback.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def front_door(folder: Path, *faults: str) -> Iterator[Door]:
    """Give the door of a server on loopback with some faults."""
    made = local_certificate(folder, HOSTNAME, "127.0.0.1")
    (folder / "both.pem").write_text(made.chain + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    with (
        serving(Front, set(faults), context) as https,
        serving(Redirect, set(faults)) as http,
    ):
        yield Door(HOSTNAME, "127.0.0.1", ca_file(folder), LOGIN, https=https, http=http)
