"""The port scan finds what listens and nothing else."""

import socket
import time
from pathlib import Path

import pytest

from bakery.checks import ports
from bakery.checks.result import CheckFailed

# An address of its own, so that what else listens on this host does not matter.
ADDRESS = "127.66.0.9"


def listening() -> set[int]:
    """Return the ports on which something of this host listens, by the kernel's own list."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def test_a_planted_listener_is_found_among_all_ports() -> None:
    with socket.create_server((ADDRESS, 0)) as planted:
        port = planted.getsockname()[1]
        known = listening()
        found = ports.open_ports(ADDRESS)
        known |= listening()
    assert port in found
    assert set(found) <= known
    assert port not in ports.open_ports(ADDRESS, [port])


def test_silent_ports_end_with_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_PATIENCE", 0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        # A listener with a full queue drops what comes next, as a firewall would.
        full.bind((ADDRESS, 0))
        full.listen(0)
        first.connect(full.getsockname())
        second.setblocking(False)
        second.connect_ex(full.getsockname())
        started = time.monotonic()
        assert ports.open_ports(ADDRESS, [full.getsockname()[1]]) == []
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([22, 80, 443, 3306], "also open: 3306"),
        ([22, 80, 443, 2375, 5000], "also open: 2375, 5000"),
        ([22], "proves nothing"),
        ([], "proves nothing"),
    ],
)
def test_what_is_open_is_judged(
    found: list[int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "open_ports", lambda _: found)
    with pytest.raises(CheckFailed, match=why):
        ports.only_the_meant_ones(ADDRESS)


@pytest.mark.parametrize("found", [[80, 443], [22, 80, 443]])
def test_the_meant_ports_pass(found: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "open_ports", lambda _: found)
    assert "443" in ports.only_the_meant_ones(ADDRESS)
