"""Clients that go on while a server is away: what one notices with and without retries."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from bakery.checks import door
from bakery.checks.client import client_python
from bakery.errors import BakeryError
from bakery.run import last_lines
from bakery.targets.base import Server

_LOG = Path(__file__).with_name("logging_client.py")
_PAUSE = 0.02
_ANSWER_SECONDS = 5


@dataclass
class Break:
    """What came of it, once it is over."""

    seconds: float = 0
    """The longest time without an answer, or of one call."""
    logged: int = 0
    """The metrics that were logged; all of them are there."""


@contextmanager
def logging(variables: Mapping[str, str], cache: Path) -> Iterator[Break]:
    """Log a metric every 100 ms meanwhile, with the MLflow client and its default retries.

    Raises:
        BakeryError: The client saw an error, or a metric is not there.
    """
    env = {**os.environ, **variables, "GIT_PYTHON_REFRESH": "quiet"}
    with subprocess.Popen(
        [client_python(cache), _LOG], env=env, cwd=cache, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        found = Break()
        try:
            _check_begun(process)
            yield found
            out, err = process.communicate("", timeout=300)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise BakeryError("the client saw an error", tail=last_lines(err))
    said = json.loads(out.splitlines()[-1])
    if said["missing"]:
        raise BakeryError(f"{said['missing']} of {said['logged']} metrics are gone")
    found.seconds, found.logged = said["longest"], said["logged"]


def _check_begun(process: subprocess.Popen[str]) -> None:
    if process.stdout is None or process.stdout.readline() != "begun\n":
        process.kill()
        raise BakeryError("the client did not begin", tail=last_lines(process.communicate()[1]))


@contextmanager
def asking(server: Server) -> Iterator[Break]:
    """Ask again and again meanwhile, without any retry, and measure the longest break."""
    found, ended = Break(), threading.Event()
    front = door.front(server.as_client)

    def ask() -> None:
        last = time.monotonic()
        while not ended.wait(_PAUSE):
            try:
                answer = door.ask(front, door.READY, login=front.login, timeout=_ANSWER_SECONDS)
            except requests.RequestException:
                continue
            if answer.status_code == 200:
                now = time.monotonic()
                found.seconds, last = max(found.seconds, now - last), now

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
