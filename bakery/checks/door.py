"""Requests to the front door of a server: by its address, under its name, past any proxy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from bakery.targets.base import Server

READY = "/api/2.0/mlflow/experiments/search?max_results=1"
"""Reads the database; /health does not."""
SERIAL = "X-Bakery-Serial"
"""The header that tells, with a login only, which environment Traefik has read."""


@dataclass(frozen=True)
class Login:
    """A name and a password."""

    username: str
    password: SecretStr

    @property
    def basic(self) -> HTTPBasicAuth:
        """For requests: as UTF-8, because it would send text as Latin-1."""
        return HTTPBasicAuth(self.username.encode(), self.password.get_secret_value().encode())


@dataclass(frozen=True)
class Door:
    """Where a server answers and who may come in."""

    hostname: str
    address: str
    ca_file: Path | None
    login: Login
    https: int = 443
    http: int = 80
    check_token: SecretStr | None = None


def front(server: Server) -> Door:
    """Return the front door of a server."""
    login = Login(server.username, server.password)
    return Door(
        server.hostname, server.address, server.ca_file, login, check_token=server.check_token
    )


class _UnderItsName(HTTPAdapter):
    """Talks TLS to an address as if its name had been looked up."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"server_hostname": self._hostname, "assert_hostname": self._hostname}
        super().init_poolmanager(*args, **kwargs)


def session(door: Door, login: Login | None = None) -> requests.Session:
    """Return a session whose requests to `base(door)` reach the server under its public name."""
    made = requests.Session()
    # No proxy, no .netrc: the check is about this server and this login.
    made.trust_env = False
    made.mount("https://", _UnderItsName(door.hostname))
    made.verify = str(door.ca_file) if door.ca_file else True
    made.headers["Host"] = door.hostname
    if door.check_token:
        made.headers["X-Bakery-Check"] = door.check_token.get_secret_value()
    if login is not None:
        made.auth = login.basic
    return made


def base(door: Door) -> str:
    """Return the part of the address that paths are appended to."""
    return f"https://{door.address}:{door.https}"


def ask(
    door: Door,
    path: str,
    *,
    login: Login | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: object = None,
    timeout: float = 15,
    stream: bool = False,
) -> requests.Response:
    """Send one request and return the answer, redirects not followed; `timeout` in seconds.

    With `stream` the body is left unread.
    """
    with session(door, login) as made:
        return made.request(
            method,
            base(door) + path,
            headers=headers,
            json=json,
            timeout=(min(timeout, 5), timeout),
            allow_redirects=False,
            stream=stream,
        )
