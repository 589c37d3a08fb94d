"""The verb gc: ages, what is asked of the machine, what is said."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bakery import purge, targets
from bakery.errors import BakeryError, InputError
from bakery.purge import Purged
from bakery.settings import load
from bakery.state import Deployment, Generation
from bakery.targets.base import Answer


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("30d", 2_592_000_000), ("1d12h", 129_600_000), ("2m5s", 125_000)],
)
def test_ages(text: str, milliseconds: int) -> None:
    assert purge.parse_age(text) == milliseconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1w", "1.5d", "12h1d", "30d; id"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--older-than"):
        purge.parse_age(text)


def row(why: str = "", kind: str = "run") -> dict[str, str]:
    return {"kind": kind, "id": "a", "name": "n", "experiment": "1", "location": "l", "why": why}


class Machine:
    """A deployment's machine that answers, or does not."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[str] = []
        self.answer = Answer(0, "", "")
        self.deployment = Deployment(name="mlflow", generation=Generation(number=1, image="one"))

    def server(self) -> None: ...

    def running(self, _: Generation) -> bool:
        return self.up

    def execute(self, _: Generation, words: list[str], **__: object) -> Answer:
        self.asked = words
        return self.answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    @contextmanager
    def opened(_: object) -> Iterator[Machine]:
        yield made

    monkeypatch.setattr(targets, "opened", opened)
    return made


def test_the_machine_is_asked_and_its_answer_read(machine: Machine) -> None:
    said = "something of MLflow's\n" + json.dumps([row(), row("used")]) + "\n"
    machine.answer = Answer(0, said, "")
    found = purge.purge(load(), older_than="1h", dry_run=True)
    assert [one.why for one in found] == ["", "used"]
    assert machine.asked[-4:] == ["gc", "--older-than", "3600000", "--dry-run"]
    purge.purge(load())
    assert machine.asked[-3:] == ["gc", "--older-than", "0"]


def test_a_machine_that_is_stopped_or_fails_is_told(machine: Machine) -> None:
    machine.answer = Answer(1, "", "no such service: gc")
    with pytest.raises(BakeryError, match="not everything") as failure:
        purge.purge(load())
    assert failure.value.tail == "no such service: gc"
    machine.up = False
    with pytest.raises(InputError, match="is stopped"):
        purge.purge(load())


def test_what_stays_is_told_and_is_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    found = [Purged(**row()), Purged(**row("wine version 1 is made of it", "model"))]
    with pytest.raises(BakeryError, match="1 could not be deleted"):
        purge.report(found, dry_run=False)
    said = capfd.readouterr().err
    assert "1 run, 0 models, 0 experiments deleted for good" in said
    assert "model a (n) stays: wine version 1 is made of it" in said
    purge.report(found, dry_run=True)
    assert "would be deleted" in capfd.readouterr().err
