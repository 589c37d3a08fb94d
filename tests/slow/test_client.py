"""The real MLflow client against servers that are not what they should be."""

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.checks.client import client_python, round_trip
from tests.unit.test_checks_reports import server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    client_python(folder)
    return folder


def test_the_client_is_installed_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    started = time.monotonic()
    assert client_python(cache).exists()
    assert time.monotonic() - started < 0.5
    assert [entry.name for entry in (cache / "client").iterdir() if "new-" in entry.name] == []


def test_a_dead_server_is_told_soon(cache: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    results = round_trip(replace(server(tmp_path), hostname="127.66.0.11"), cache=cache)
    assert [result.ok for result in results] == [False]
    assert "ConnectionError" in results[0].detail or "refused" in results[0].detail
    assert time.monotonic() - started < 30


def test_a_silent_server_is_given_up(cache: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.66.0.12", 443)):
        started = time.monotonic()
        results = round_trip(replace(server(tmp_path), hostname="127.66.0.12"), cache=cache)
    assert [result.ok for result in results] == [False]
    assert time.monotonic() - started < 60
