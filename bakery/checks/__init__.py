"""Checks of a deployed server: from outside as its clients see it, and inside the machine."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from bakery import ssh
from bakery.checks import https, ports, tls
from bakery.checks.client import round_trip
from bakery.checks.command import check_by_command
from bakery.checks.door import READY, SERIAL, Door, Login, ask, front
from bakery.checks.machine import check_machine
from bakery.checks.result import CheckResult, measure
from bakery.log import step
from bakery.targets.base import Server

__all__ = [
    "CheckResult",
    "check_by_command",
    "check_machine",
    "check_server",
    "wait_login",
    "wait_ready",
    "wait_serial",
]

_AT_THE_DOOR: list[tuple[str, Callable[[Door], str]]] = [
    ("name leads to the address", https.name_resolves),
    ("certificate is valid", tls.chain_is_valid),
    ("TLS 1.0 and 1.1 refused", tls.old_versions_refused),
    ("port 80 redirects", https.redirects),
    ("no login, no entry", https.no_login),
    ("wrong password refused", https.wrong_password),
    ("unknown user refused", https.unknown_user),
    ("right login gets in", https.lets_in),
    ("database is read", https.reads_database),
    ("health is open", https.health_is_open),
    ("dangerous paths shut", https.shut_paths),
    ("wrong host refused", https.wrong_host),
    ("foreign origin refused", https.origins),
]


def wait_ready(server: Server, *, deadline: float, fault: Callable[[], str] = str) -> float:
    """Wait until the server answers from its database; return the seconds that took.

    `deadline` is in seconds from now; `fault` says why it never will, or nothing.

    Raises:
        BakeryError: It did not answer in time, or never will; the last answer is in the message.
    """
    started = time.monotonic()
    https.wait(front(server), deadline=deadline, fault=fault)
    return time.monotonic() - started


def wait_login(
    server: Server, username: str, password: str, *, admitted: bool, seconds: float
) -> bool:
    """Wait until a login is admitted, or refused; return whether it was so within `seconds`."""
    login, wanted = Login(username, SecretStr(password)), 200 if admitted else 401

    def answered() -> bool:
        try:
            return ask(front(server), READY, login=login).status_code == wanted
        except OSError:
            return False

    return ssh.wait(answered, seconds=seconds)


def wait_serial(server: Server, serial: int, *, seconds: float) -> bool:
    """Wait until Traefik has read an environment of at least this serial; return whether it did."""
    door = front(server)

    def read() -> bool:
        try:
            told = ask(door, READY, login=door.login).headers.get(SERIAL, "")
        except OSError:
            return False
        return told.isdigit() and int(told) >= serial

    return ssh.wait(read, seconds=seconds)


def check_server(server: Server, *, cache: Path) -> list[CheckResult]:
    """Check a server from outside; the real MLflow client is kept in `cache`."""
    there = front(server)
    with step("Front door"):
        results = [measure(name, partial(check, there)) for name, check in _AT_THE_DOOR]
    with step("All TCP ports"):
        scan = partial(ports.only_the_meant_ones, server.address)
        results.append(measure("only 22, 80, 443 open", scan))
    with step("Round trip of an MLflow client"):
        results += round_trip(server, cache=cache)
    return results
