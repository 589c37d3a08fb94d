"""What the host makes of the answers of the machine's backup tool."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bakery import backup
from bakery.errors import BakeryError, InputError
from bakery.state import Deployment, Generation
from bakery.targets.base import Answer
from tests.unit.samples import manifest

GENERATION = Generation(number=1, image="i")
PROJECT = Path(__file__).parents[2]
MACHINE = PROJECT / "packer/files/usr/lib/mlflow-bakery/mlflow_bakery_machine"


class Target:
    """Has one machine, which gives the answers put into the list, then holds what it was asked."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def execute(self, _: Generation, words: list[str], *, timeout: float) -> Answer:
        assert timeout > 3600
        code, out, err = self.answers.pop(0)
        self.answers.append(words)
        return Answer(code, out, err)


@pytest.fixture
def machine() -> list[Any]:
    return []


def there(machine: list[Any]) -> Any:
    return Target(machine), GENERATION


def test_an_answer_is_read(machine: list[Any]) -> None:
    machine.append((0, json.dumps({"name": "x"}), "a note\n"))
    assert backup._machine(there(machine), "make") == {"name": "x"}
    assert machine == [["/usr/lib/mlflow-bakery/backup", "make"]]


@pytest.mark.parametrize("words", backup._HINTS)
def test_a_refusal_is_bad_input_with_its_own_hint(words: str, machine: list[Any]) -> None:
    machine.append((2, "", f"noise\nREFUSED: x: {words} y\n"))
    with pytest.raises(InputError, match=re.escape(f"x: {words} y")) as caught:
        backup._machine(there(machine), "fetch", "x")
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
        backup._machine(there(machine), "make")
    assert caught.value.exit_code == 1
    assert "because" in caught.value.tail


def test_what_stops_the_server_is_run_by_systemd(machine: list[Any]) -> None:
    machine.append((0, "{}", ""))
    backup._put_in_place(there(machine), "x", replace_data=True)
    words = machine[0]
    assert words[0] == "systemd-run"
    assert "--wait" in words
    assert words[-3:] == ["put-in-place", "x", "--replace-data"]


def test_the_last_backup_may_be_none_or_out_of_reach(machine: list[Any]) -> None:
    machine += [(0, "null", "")]
    assert backup.last_backup(*there(machine)) is None
    machine[:] = [(1, "", "sudo: /usr/lib/mlflow-bakery/backup: command not found\n")]
    assert backup.last_backup(*there(machine)) is None
    machine[:] = [(0, json.dumps({"name": "x", "created": "2026-11-23T08:00:00Z"}), "")]
    found = backup.last_backup(*there(machine))
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


class Upgraded(Target):
    """Has a machine of one schema, and an image of another or of the same."""

    def __init__(self, answers: list[Any], revision: str, *, runs: bool = True) -> None:
        super().__init__(answers)
        current = GENERATION.model_copy(update={"revision": "old"})
        self.deployment = Deployment(name="x", generation=current)
        self._revision, self._runs = revision, runs

    def schema(self, _: object) -> dict[str, str]:
        return {"revision": self._revision}

    def running(self, _: Generation) -> bool:
        return self._runs


def test_a_schema_is_backed_up_before_it_changes(
    machine: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.append((0, json.dumps({"name": "x-1"}), ""))
    target: Any = Upgraded(machine, "new")
    backup.before_migration(target, manifest("i"))
    assert machine[0][:3] == ["/usr/lib/mlflow-bakery/backup", "make", "--keep"]
    assert machine[0][3].startswith("before the upgrade to MLflow ")
    assert "kept: x-1" in capsys.readouterr().err


@pytest.mark.parametrize(("revision", "runs"), [("old", True), ("new", False)])
def test_what_does_not_change_or_does_not_run_is_not(
    machine: list[Any], revision: str, runs: bool
) -> None:
    target: Any = Upgraded(machine, revision, runs=runs)
    backup.before_migration(target, manifest("i"))
    assert machine == []


def test_no_backup_no_upgrade(machine: list[Any]) -> None:
    machine.append((1, "", "Blob: nobody answers\n"))
    target: Any = Upgraded(machine, "new")
    with pytest.raises(BakeryError, match="backup tool failed") as failed:
        backup.before_migration(target, manifest("i"))
    assert "nobody answers" in failed.value.tail
