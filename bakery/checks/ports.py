"""A scan of all TCP ports of an address: fast where closed ports answer, patient where not."""

import errno
import selectors
import socket
import time
from collections.abc import Iterable, Iterator

from bakery.checks.result import expect

ALLOWED = frozenset({22, 80, 443})
_ALL = range(1, 65536)
# Far below the usual limit of 1024 open files.
_AT_ONCE = 500
# Long enough for the kernel to repeat a lost SYN once, after 1 s.
_PATIENCE = 2.0


def only_the_meant_ones(address: str) -> str:
    """Of all TCP ports, no other than SSH, HTTP and HTTPS is open, and the last two are."""
    found = open_ports(address)
    beside = [port for port in found if port not in ALLOWED]
    expect(not beside, f"also open: {', '.join(map(str, beside))}")
    expect({80, 443} <= set(found), f"the scan found only {found}, so it proves nothing")
    return f"{', '.join(map(str, found))} of 65535"


def open_ports(address: str, ports: Iterable[int] = _ALL) -> list[int]:
    """Return the TCP ports of an IPv4 address that accept a connection, in order."""
    left = iter(ports)
    found: list[int] = []
    waiting: dict[int, tuple[socket.socket, int, float]] = {}
    with selectors.DefaultSelector() as selector:
        while _fill(selector, waiting, address, left, found) or waiting:
            for key, _ in selector.select(timeout=0.05):
                connection, port, _ = waiting.pop(key.fd)
                selector.unregister(connection)
                _close(connection, port, found)
            _give_up(selector, waiting)
    return sorted(found)


def _fill(
    selector: selectors.BaseSelector,
    waiting: dict[int, tuple[socket.socket, int, float]],
    address: str,
    left: Iterator[int],
    found: list[int],
) -> bool:
    """Start connections up to the limit; False when no port is left to start with."""
    while len(waiting) < _AT_ONCE:
        port = next(left, None)
        if port is None:
            return False
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if connection.connect_ex((address, port)) == errno.EINPROGRESS:
            selector.register(connection, selectors.EVENT_WRITE)
            waiting[connection.fileno()] = (connection, port, time.monotonic() + _PATIENCE)
        else:
            # Answered at once: on loopback, or no route at all.
            _close(connection, port, found)
    return True


def _close(connection: socket.socket, port: int, found: list[int]) -> None:
    with connection:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            return
        try:
            # On loopback a socket can meet itself; that is no listener.
            if connection.getpeername() != connection.getsockname():
                found.append(port)
        except OSError:
            return


def _give_up(
    selector: selectors.BaseSelector, waiting: dict[int, tuple[socket.socket, int, float]]
) -> None:
    now = time.monotonic()
    late = [number for number, (_, _, until) in waiting.items() if until < now]
    for number in late:
        connection, _, _ = waiting.pop(number)
        selector.unregister(connection)
        connection.close()
