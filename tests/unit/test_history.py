"""What ran when, and logins: what is printed, and what never is."""

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tasks
from bakery import console, settings, status
from bakery.errors import InputError
from bakery.state import Deployment, DeploymentFolder, Event, Generation

Capture = pytest.CaptureFixture[str]


def event(outcome: str) -> Event:
    return Event(
        action="deploy", generation=7, image="20260101-abc", mlflow="3.17.2", revision="r1",
        started=datetime(2026, 1, 1, tzinfo=UTC), by="me@here", seconds=12.3, outcome=outcome,
    )  # fmt: skip


def test_history_as_a_table_and_as_json(state: Path, capsys: Capture) -> None:
    found = settings.load()
    told = [event("replaced"), event("undone: [not] ready")]
    generation = Generation(number=7, image="i")
    DeploymentFolder(state, found.name).save(
        Deployment(name=found.name, generation=generation, history=told)
    )
    events = status.history(found)
    assert events == told
    console.show_history(events, as_json=False)
    table = capsys.readouterr().out
    for said in ("me@here", "20260101-abc", "3.17.2", "r1", "12 s", "undone: [not] ready"):
        assert said in table
    console.show_history(events, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["outcome"] for row in rows] == ["replaced", "undone: [not] ready"]
    assert set(rows[0]) == set(Event.model_fields)


def test_a_deployment_that_is_not_there_has_no_history(state: Path) -> None:
    with pytest.raises(InputError):
        status.history(settings.load())
    assert not state.exists()


@pytest.mark.parametrize(
    ("text", "password"), [("a b\n", "a b"), ("a\r\n", "a"), ("ä", "ä"), (" x \n", " x ")]
)
def test_a_password_is_read_whole(
    text: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert console.read_password().get_secret_value() == password


def test_a_made_password_is_shown_on_a_terminal_only(
    state: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings.load()
    console.show_password(found, "ann", "s3cret", given=False)
    out, err = capsys.readouterr()
    assert "s3cret" not in out + err
    assert "secrets.json" in err
    with monkeypatch.context() as patched:
        patched.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        console.show_password(found, "ann", "s3cret", given=False)
        console.show_password(found, "ann", "brought", given=True)
    assert capsys.readouterr().out == "s3cret\n"


def test_the_verbs_are_there() -> None:
    for name in ("rollback", "history", "users", "rotate"):
        assert getattr(tasks, name).name == name
