"""Checks of the front door: who may come in, what stays shut, when it is ready."""

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import requests
import tenacity
from pydantic import SecretStr

from bakery.checks.door import READY, Door, Login, ask
from bakery.checks.result import CheckFailed, expect, one_line
from bakery.errors import BakeryError

SHUT = ("/metrics", "/gateway/", "/ajax-api/3.0/mlflow/assistant")
_LOOK_SECONDS = 5
"""Between two looks at whether waiting is of any use."""
_SEARCH = "/api/2.0/mlflow/experiments/search"


def name_resolves(door: Door) -> str:
    """The public name leads to the address."""
    found = {entry[4][0] for entry in socket.getaddrinfo(door.hostname, door.https)}
    expect(door.address in found, f"{door.hostname} is {sorted(map(str, found))}")
    return f"{door.hostname} is {door.address}"


def redirects(door: Door) -> str:
    """Plain HTTP leads to the same path over HTTPS and shows nothing else."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"http://{door.address}:{door.http}/some/path?a=b",
            headers={"Host": door.hostname},
            timeout=10,
            allow_redirects=False,
        )
    target = answer.headers.get("Location", "")
    expect(answer.status_code in {301, 302, 307, 308}, f"answered {answer.status_code}")
    wanted = {f"https://{door.hostname}{port}/some/path?a=b" for port in ("", f":{door.https}")}
    expect(target in wanted, f"leads to {target!r}")
    return f"{answer.status_code} to {target}"


def no_login(door: Door) -> str:
    """Nobody comes in without a login."""
    return _refused(door, None)


def wrong_password(door: Door) -> str:
    """A wrong password is refused: another one, a longer one, the right one cut short."""
    right = door.login.password.get_secret_value()
    # Unlike any password: a control character cannot be in one.
    for wrong in (secrets.token_urlsafe(16), f"{right[:40]}\x01", right[:-1]):
        _refused(door, replace(door.login, password=SecretStr(wrong)))
    return "401 for three of them"


def unknown_user(door: Door) -> str:
    """The right password under another name is refused."""
    return _refused(
        door, replace(door.login, username=f"{door.login.username}-{secrets.token_hex(4)}")
    )


def _refused(door: Door, login: Login | None) -> str:
    answer = ask(door, READY, login=login)
    expect(answer.status_code == 401, f"answered {answer.status_code} instead of 401")
    expect("Basic" in answer.headers.get("WWW-Authenticate", ""), "401 asks for no login")
    return "401"


def lets_in(door: Door) -> str:
    """The right login gets the user interface."""
    answer = ask(door, "/", login=door.login)
    expect(answer.status_code == 200, f"answered {answer.status_code}")
    expect("mlflow" in answer.text.lower(), "answered 200, but not with MLflow's page")
    return "200 with the page of MLflow"


def reads_database(door: Door, *, timeout: float = 15) -> str:
    """An API call that reads the database answers."""
    answer = ask(door, READY, login=door.login, timeout=timeout)
    expect(answer.status_code == 200, f"answered {answer.status_code}: {_start(answer)}")
    try:
        found = answer.json().get("experiments", [])
    except (ValueError, AttributeError):
        raise CheckFailed(f"answered 200, but not as MLflow does: {_start(answer)}") from None
    # All experiments may be in the bin.
    return f"200 with {'an experiment' if found else 'no experiment'}"


def health_is_open(door: Door) -> str:
    """The path for load balancers answers without a login, and only that very path does."""
    answer = ask(door, "/health")
    expect(answer.status_code == 200, f"/health answered {answer.status_code}")
    for path in ("/healthz", "/health/x", "/version"):
        got = ask(door, path).status_code
        expect(got in {401, 404}, f"{path} answered {got} without login")
    return "200 without login, paths beside it not"


def shut_paths(door: Door) -> str:
    """Dangerous paths are denied even with the right login and a forged origin."""
    control = ask(door, "/version", login=door.login).status_code
    expect(control == 200, f"/version answered {control}, so a denial would prove nothing")
    for path in SHUT:
        for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}):
            got = ask(door, path, login=door.login, headers=headers).status_code
            expect(got in {403, 404}, f"{path} answered {got}")
    return f"{', '.join(SHUT)} denied, /version not"


def wrong_host(door: Door) -> str:
    """A request under another name is refused, even with the right login."""
    for host in ("attacker.example", f"{door.hostname}.attacker.example", door.address):
        got = ask(door, READY, login=door.login, headers={"Host": host}).status_code
        expect(got in {400, 403, 404, 421}, f"Host {host} answered {got}")
    return "refused for three other names"


def origins(door: Door) -> str:
    """The user interface may send forms, pages of other sites may not."""
    own, foreign = (_post_from(door, f"https://{site}") for site in (door.hostname, "evil.example"))
    expect(own == 200, f"the server's own origin answered {own}")
    expect(foreign == 403, f"a foreign origin answered {foreign}")
    return "200 from its own pages, 403 from others"


def _post_from(door: Door, origin: str) -> int:
    answer = ask(
        door,
        _SEARCH,
        login=door.login,
        method="POST",
        headers={"Origin": origin},
        json={"max_results": 1},
        # A refusal may end the connection before its body is whole.
        stream=True,
    )
    with answer:
        return answer.status_code


def wait(door: Door, *, deadline: float, fault: Callable[[], str] = str) -> None:
    """Wait until an API call that reads the database answers; `deadline` in seconds from now.

    `fault` is asked now and then why it never will; it says nothing while it may.

    Raises:
        BakeryError: It did not within the deadline, or never will; the last answer, or the reason,
            is in the message.
    """
    looked = time.monotonic()

    def attempt() -> None:
        nonlocal looked
        try:
            reads_database(door, timeout=min(10, deadline))
        except (CheckFailed, OSError):
            if time.monotonic() > looked + _LOOK_SECONDS:
                reason = fault()
                looked = time.monotonic()
                if reason:
                    raise BakeryError(
                        f"https://{door.hostname} does not become ready: {reason}",
                        hint="the machine's own story: ./inv logs",
                    ) from None
            raise

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_delay(deadline),
        wait=tenacity.wait_fixed(0.2),
        retry=tenacity.retry_if_exception_type((CheckFailed, OSError)),
        reraise=True,
    )
    try:
        attempts(attempt)
    except (CheckFailed, OSError) as last:
        raise BakeryError(
            f"https://{door.hostname} was not ready within {deadline:.0f} s: {one_line(last)}",
            hint="the machine's own story: ./inv logs",
        ) from last


def _start(answer: requests.Response) -> str:
    return answer.text.strip()[:100]
