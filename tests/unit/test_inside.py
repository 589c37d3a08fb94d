"""Looking inside a machine: what is asked of it, what is refused, how it ends."""

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bakery import inside
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.network import Network
from bakery.settings import Settings, load
from bakery.state import Deployment, DeploymentFolder, Generation, Pending, Secrets

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def settings(state: Path) -> Settings:
    """Settings of a deployment that is there, its machine stopped."""
    found = load()
    folder = DeploymentFolder(state, found.name)
    folder.save(
        Deployment(
            name=found.name,
            network=Network("bk1", "10.88.0.0/28"),
            generation=Generation(number=3, image="one"),
        )
    )
    folder.save_secrets(Secrets(password="p", password_hash="h", storage_key="k"))  # type: ignore[arg-type]
    return found


@pytest.fixture
def machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], None]:
    """Let the machine run, and a script stand in for `ssh`."""
    monkeypatch.setattr(Nspawn, "running", lambda *_: True)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def answers(script: str) -> None:
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ssh").chmod(0o755)

    return answers


COMMANDS = [
    ({}, "sudo docker logs --timestamps --tail 100 mlflow-mysql-1 2>&1"),
    ({"lines": 5}, "sudo docker logs --timestamps --tail 5 mlflow-mysql-1 2>&1"),
    (
        {"since": "2026-11-23T12:00+00:00"},
        "sudo docker logs --timestamps --tail all --since 2026-11-23T12:00:00Z mlflow-mysql-1 2>&1",
    ),
    (
        {"follow": True},
        "stty -onlcr ; exec sudo docker logs --timestamps --tail 100 --follow mlflow-mysql-1 2>&1",
    ),
]


@pytest.mark.parametrize(("given", "asked"), COMMANDS)
def test_what_is_asked_of_the_machine(
    settings: Settings,
    machine: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
    given: dict[str, object],
    asked: str,
) -> None:
    machine('for one; do :; done; echo "$one"')
    assert inside.logs(settings, "mysql", **given) == 0  # type: ignore[arg-type]
    assert capfd.readouterr().out == f"{asked}\n"


def test_the_journal_has_options_of_its_own(
    settings: Settings, machine: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    machine('for one; do :; done; echo "$one"')
    inside.logs(settings, "machine", lines=7, since="2026-11-23T12:00+00:00", follow=True)
    assert capfd.readouterr().out == (
        "stty -onlcr ; exec sudo journalctl --no-pager --lines 7"
        " --since '2026-11-23 12:00:00 UTC' --follow 2>&1\n"
    )


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_passed_on(
    settings: Settings, machine: Callable[[str], None], code: int
) -> None:
    machine(f"exit {code}")
    assert inside.logs(settings, "mlflow") == code


def test_a_machine_that_does_not_answer(settings: Settings, machine: Callable[[str], None]) -> None:
    machine("exit 255")
    with pytest.raises(BakeryError, match="does not answer"):
        inside.logs(settings, "mlflow")


def test_a_stopped_machine_is_said_to_be(settings: Settings) -> None:
    with pytest.raises(InputError, match="mlflow is stopped") as refused:
        inside.logs(settings, "mlflow")
    assert "./inv console" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOON.replace(hour=11, minute=58, second=30)),
        ("10m", NOON.replace(hour=11, minute=50)),
        ("2h", NOON.replace(hour=10)),
        ("1d", NOON.replace(day=22)),
        ("2026-11-20T08:30+01:00", datetime(2026, 11, 20, 7, 30, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert inside.since_when(text, NOON) == moment


@pytest.mark.parametrize("text", ["yesterday", "10", "m", "-5m", "2026-13-01", "99999999999d"])
def test_since_no_time(text: str) -> None:
    with pytest.raises(InputError, match="not a time"):
        inside.since_when(text)


def test_the_words_of_ssh(settings: Settings) -> None:
    plain = inside.ssh_command(settings, "")
    assert plain[-1] == "bakery@10.88.0.7", "the third generation's own address"
    assert inside.ssh_command(settings, "ls 'a b'") == [*plain, "--", "ls 'a b'"]


def write_console(settings: Settings, generation: int, text: str) -> Path:
    folder = DeploymentFolder(settings.state_dir, settings.name).machine(generation)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "console.log").write_text(text)
    return folder / "console.log"


def test_the_console_is_that_of_the_newest_generation(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_console(settings, 3, "\x1b[0;32mold\x1b[0m\r\nmachine\n")
    assert inside.console(settings) == 0
    assert capsys.readouterr().out == "old\nmachine\n"
    folder = DeploymentFolder(settings.state_dir, settings.name)
    deployment = folder.deployed()
    new = Generation(number=4, image="two")
    deployment.pending = Pending(action="deploy", generation=new, by="me")
    folder.save(deployment)
    write_console(settings, 4, "a\nb\nc\n")
    inside.console(settings, lines=2)
    assert capsys.readouterr().out == "b\nc\n"


def test_following_ends_with_an_interrupt_and_no_word(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "_POLL_SECONDS", 0.01)
    file = write_console(settings, 3, "one\n")

    def later() -> None:
        time.sleep(0.2)
        with file.open("a") as console:
            console.write("two\n")
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=later)
    thread.start()
    code = inside.console(settings, follow=True)
    thread.join()
    assert (code, *capsys.readouterr()) == (130, "one\ntwo\n", "")


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "a", "a"),
        ("ab", "abc", "c"),
        ("ab", "bc", "bc"),
        ("x" * 500 + "y" * 1000, "y" * 1000 + "z", "z"),
        ("old", "rebooted", "rebooted"),
    ],
)
def test_what_was_added(before: str, now: str, new: str) -> None:
    assert inside.added(before, now) == new
