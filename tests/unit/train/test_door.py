"""A wrong login, or a server that is not ready, is told at once."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery.checks.door import front
from bakery.errors import InputError
from bakery.settings import load
from bakery.targets.base import Server
from bakery.train import door
from tests.unit.checks_server import LOGIN, front_door
from tests.unit.test_checks_reports import server


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the door of a server be at another port."""

    def put(https: int) -> None:
        monkeypatch.setattr(door, "front", lambda one: replace(front(one), https=https))

    return put


def deployed(folder: Path, ca: Path | None, password: SecretStr) -> Server:
    found = replace(server(folder), ca_file=ca, username=LOGIN.username, password=password)
    return replace(found, address="127.0.0.1")


def test_the_right_login_is_let_in(tmp_path: Path, at: object) -> None:
    with front_door(tmp_path) as there:
        at(there.https)  # type: ignore[operator]
        found = door.checked(load(), deployed(tmp_path, there.ca_file, LOGIN.password))
    assert found.password == LOGIN.password


def test_the_login_of_the_environment_counts(
    tmp_path: Path, at: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with front_door(tmp_path) as there:
        at(there.https)  # type: ignore[operator]
        stored = deployed(tmp_path, there.ca_file, LOGIN.password)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "stale")
        with pytest.raises(InputError, match="is wrong, or was rotated away") as refusal:
            door.checked(load(), stored)
        assert 'eval "$(./inv env --name mlflow)"' in refusal.value.hint
        assert "stale" not in str(refusal.value)
        with pytest.raises(InputError, match="remembered here"):
            door.checked(
                load().model_copy(update={"password": None}),
                replace(stored, password=SecretStr("another")),
            )


def test_a_server_that_is_not_ready_is_told_at_once(tmp_path: Path, at: object) -> None:
    with front_door(tmp_path, "database down") as there:
        at(there.https)  # type: ignore[operator]
        with pytest.raises(InputError, match="not ready: it answers 503"):
            door.checked(load(), deployed(tmp_path, there.ca_file, LOGIN.password))
    started = time.monotonic()
    with pytest.raises(InputError, match="does not answer"):
        door.checked(load(), deployed(tmp_path, None, LOGIN.password))
    assert time.monotonic() - started < 10
