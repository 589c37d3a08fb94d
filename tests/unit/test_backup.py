"""What the host makes of the answers of the machine's backup tool."""

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bakery import backup
from bakery.errors import BakeryError, InputError
from bakery.targets.base import SshAccess

ACCESS = SshAccess(host="192.0.2.2", user="bakery", key=Path("key"), known_hosts=Path("known"))
PROJECT = Path(__file__).parents[2]
MACHINE = PROJECT / "packer/files/usr/lib/mlflow-bakery/mlflow_bakery_machine"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine that gives the answers put into this list, then holds what it was asked."""
    answers: list[Any] = []

    def command(_access: SshAccess, words: list[str], **_: Any) -> Any:
        code, out, err = answers.pop(0)
        answers.append(words)
        return subprocess.CompletedProcess(words, code, out, err)

    monkeypatch.setattr("bakery.backup.ssh.command", command)
    return answers


def test_an_answer_is_read(machine: list[Any]) -> None:
    machine.append((0, json.dumps({"name": "x"}), "a note\n"))
    assert backup._machine(ACCESS, "make") == {"name": "x"}
    assert machine == [["sudo", "/usr/lib/mlflow-bakery/backup", "make"]]


@pytest.mark.parametrize("words", backup._HINTS)
def test_a_refusal_is_bad_input_with_its_own_hint(words: str, machine: list[Any]) -> None:
    machine.append((2, "", f"noise\nREFUSED: x: {words} y\n"))
    with pytest.raises(InputError, match=re.escape(f"x: {words} y")) as caught:
        backup._machine(ACCESS, "fetch", "x")
    assert caught.value.exit_code == 2
    assert caught.value.hint == backup._HINTS[words]


def test_each_hint_is_for_something_that_the_machine_says() -> None:
    said = "".join(path.read_text() for path in MACHINE.glob("*.py"))
    assert [words for words in backup._HINTS if words not in said] == []


@pytest.mark.parametrize(
    ("code", "said"), [(1, "tool failed"), (255, "does not answer"), (2, "tool failed")]
)
def test_a_failure_is_no_bad_input(code: int, said: str, machine: list[Any]) -> None:
    machine.append((code, "", "mlflow-bakery: because\n"))
    with pytest.raises(BakeryError, match=said) as caught:
        backup._machine(ACCESS, "make")
    assert caught.value.exit_code == 1
    assert "because" in caught.value.tail


def test_what_stops_the_server_is_run_by_systemd(machine: list[Any]) -> None:
    machine.append((0, "{}", ""))
    backup._put_in_place(ACCESS, "x", replace_data=True)
    words = machine[0]
    assert words[:2] == ["sudo", "systemd-run"]
    assert "--wait" in words
    assert words[-3:] == ["put-in-place", "x", "--replace-data"]


def test_the_last_backup_may_be_none_or_out_of_reach(machine: list[Any]) -> None:
    machine += [(0, "null", "")]
    assert backup.last_backup(ACCESS) is None
    machine[:] = [(1, "", "sudo: /usr/lib/mlflow-bakery/backup: command not found\n")]
    assert backup.last_backup(ACCESS) is None
    machine[:] = [(0, json.dumps({"name": "x", "created": "2026-11-23T08:00:00Z"}), "")]
    found = backup.last_backup(ACCESS)
    assert found is not None
    assert found["name"] == "x"


@pytest.mark.parametrize(
    ("created", "said"),
    [
        ("2026-11-23T11:59:30Z", "30 s"),
        ("2026-11-23T11:30:00Z", "30 min"),
        ("2026-11-23T09:00:00Z", "3 h"),
        ("2026-11-03T11:00:00Z", "20 d"),
        ("2026-11-23T12:00:09Z", "0 s"),
    ],
)
def test_age(created: str, said: str) -> None:
    assert backup.age(created, datetime(2026, 11, 23, 12, tzinfo=UTC)) == said
