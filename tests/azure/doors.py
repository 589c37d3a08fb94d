"""What answers on loopback in the tests: servers in a thread, and doors in front of Azurite."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HOPS = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_ERROR = '<?xml version="1.0" encoding="utf-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'
Headers = list[tuple[str, str]]


class Server(http.server.ThreadingHTTPServer):
    """Answers many at once, and says nothing of a client that broke off: that is part of tests."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Let a server answer, until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class DoorHandler(http.server.BaseHTTPRequestHandler):
    """Answers as Blob does: with what Azurite said, or with an error of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer that was read whole."""
        length = str(len(body))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_error(self, status: int, code: str, message: str, more: Headers) -> None:
        """Send an error in Blob's form."""
        headers = [("Content-Type", "application/xml"), ("x-ms-error-code", code), *more]
        self.answer(status, headers, _ERROR.format(code, message).encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""
