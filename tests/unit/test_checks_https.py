"""The checks of the front door against a small real server: green, and red for each fault."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery.checks import _AT_THE_DOOR, https, tls
from bakery.checks.door import Door
from bakery.checks.result import CheckFailed, measure
from bakery.errors import BakeryError
from bakery.tls import ca_file, local_certificate
from tests.unit.checks_server import HOSTNAME, Front, front_door, serving

Check = Callable[[Door], str]

FAULTS: list[tuple[Check, str]] = [
    (https.redirects, "serves plain"),
    (https.redirects, "redirects elsewhere"),
    (https.no_login, "no login"),
    (https.no_login, "no login asked"),
    (https.wrong_password, "any password"),
    (https.wrong_password, "prefix is enough"),
    (https.unknown_user, "any user"),
    (https.lets_in, "nobody"),
    (https.lets_in, "other page"),
    (https.reads_database, "database down"),
    (https.reads_database, "other service"),
    (https.health_is_open, "health shut"),
    (https.health_is_open, "open beside health"),
    (https.shut_paths, "/metrics"),
    (https.shut_paths, "/gateway/"),
    (https.shut_paths, "/ajax-api/3.0/mlflow/assistant"),
    (https.shut_paths, "trusts forwarded"),
    (https.shut_paths, "no entry at all"),
    (https.wrong_host, "any host"),
    (https.origins, "any origin"),
    (https.origins, "no origin"),
]
# The name of the test server is nobody's, so looking it up has tests of its own.
SERVED = [(name, check) for name, check in _AT_THE_DOOR if check is not https.name_resolves]


@pytest.mark.parametrize(("name", "check"), SERVED, ids=[name for name, _ in SERVED])
def test_a_good_server_passes(name: str, check: Check, tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        result = measure(name, lambda: check(door))
    assert result.ok, result.detail
    assert result.detail


@pytest.mark.parametrize(("check", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_each_fault_is_found(check: Check, fault: str, tmp_path: Path) -> None:
    with front_door(tmp_path, fault) as door, pytest.raises(CheckFailed):
        check(door)


def test_every_check_of_answers_has_a_fault_that_it_finds() -> None:
    with_faults = {check for check, _ in FAULTS}
    by_hand = {https.name_resolves, tls.chain_is_valid, tls.old_versions_refused}
    assert {check for _, check in _AT_THE_DOOR} == with_faults | by_hand


def test_name_must_lead_to_the_address(tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        assert https.name_resolves(replace(door, hostname="localhost"))
        with pytest.raises(CheckFailed):
            https.name_resolves(replace(door, hostname="localhost", address="192.0.2.1"))


def test_certificate_of_another_authority_or_name_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    local_certificate(other, HOSTNAME, "127.0.0.1")
    with front_door(tmp_path) as door:
        for wrong in (
            replace(door, ca_file=ca_file(other)),
            replace(door, ca_file=None),
            replace(door, hostname="other.check.test"),
        ):
            result = measure("certificate", partial(tls.chain_is_valid, wrong))
            assert not result.ok
            assert "certificate verify failed" in result.detail
            # Requests must be as strict as the check that looks at the certificate.
            with pytest.raises(
                OSError, match=r"certificate verify failed|hostname .* doesn't match"
            ):
                https.reads_database(wrong)


def test_old_tls_is_found(tmp_path: Path) -> None:
    context = tls._context(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1)
    local_certificate(tmp_path, HOSTNAME, "127.0.0.1")
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with front_door(tmp_path) as door, serving(Front, set(), context) as port:
        with pytest.raises(CheckFailed, match=r"TLS 1\.0 was accepted"):
            tls.old_versions_refused(replace(door, https=port))
        assert tls.old_versions_refused(door)


def test_nobody_listening_is_no_refusal_of_old_tls(tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        pass
    assert not measure("old", lambda: tls.old_versions_refused(door)).ok


def test_a_dead_server_fails_every_check_soon(tmp_path: Path) -> None:
    with front_door(tmp_path) as door:
        pass
    started = time.monotonic()
    assert not any(measure(name, partial(check, door)).ok for name, check in SERVED)
    assert time.monotonic() - started < 5


def test_waiting_ends_when_the_server_is_ready(tmp_path: Path) -> None:
    with front_door(tmp_path) as door, socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        address = later.getsockname()
        late = replace(door, https=address[1])
        threading.Timer(0.5, forward, (later, door.https)).start()
        https.wait(late, deadline=20)


def forward(listener: socket.socket, port: int) -> None:
    """Begin to listen and pass one connection on."""
    listener.listen()
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", port))

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)

    for pair in ((client, server), (server, client)):
        threading.Thread(target=copy, args=pair, daemon=True).start()


def test_waiting_ends_at_the_deadline_with_the_last_answer(tmp_path: Path) -> None:
    with front_door(tmp_path, "database down") as door:
        started = time.monotonic()
        with pytest.raises(BakeryError, match="not ready within 1 s: answered 503: the database"):
            https.wait(door, deadline=1)
        assert time.monotonic() - started < 5


def test_a_server_that_accepts_and_says_nothing_ends_the_wait_too(tmp_path: Path) -> None:
    with front_door(tmp_path) as door, socket.create_server(("127.0.0.1", 0)) as mute:
        silent = replace(door, https=mute.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(BakeryError, match="not ready within 1 s"):
            https.wait(silent, deadline=1)
        assert time.monotonic() - started < 8


@pytest.mark.parametrize("reason", ["its machine has ended", ""])
def test_waiting_ends_when_it_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(https, "_LOOK_SECONDS", 0.5)
    with front_door(tmp_path, "database down") as door:
        started = time.monotonic()
        wanted = f"does not become ready: {reason}" if reason else "not ready within 3 s"
        with pytest.raises(BakeryError, match=wanted):
            https.wait(door, deadline=3, fault=lambda: reason)
        assert (time.monotonic() - started < 2.5) == bool(reason)


def test_no_password_in_what_a_check_says(tmp_path: Path) -> None:
    with front_door(tmp_path, "nobody") as door:
        known = replace(door, login=replace(door.login, password=SecretStr("geheim")))
        said = [measure(name, partial(check, known)).detail for name, check in SERVED]
    assert "geheim" not in repr(known) + "".join(said)
