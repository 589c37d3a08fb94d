"""Run Command: what goes in is protected, and an answer of any size comes back whole."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bakery import settings
from bakery.azure import inside
from bakery.azure.context import Azure
from bakery.azure.inside import Inside

SHOWN = 4096


class Poller:
    def result(self) -> None:
        pass


class View:
    def __init__(self, output: str, error: str) -> None:
        self.output, self.error, self.execution_message = output, error, ""


class Command:
    def __init__(self, view: View) -> None:
        self.instance_view = view


class Machine:
    """Runs the scripts for real, and shows the last 4 KiB of their outputs, as Azure does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bodies: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.view = View("", "")
        self.answers = True

    def begin_create_or_update(self, *given: Any) -> Poller:
        body: dict[str, Any] = given[-1]
        self.bodies.append(body)
        properties = body["properties"]
        values = {one["name"]: one["value"] for one in properties.get("protectedParameters", [])}
        words = ["bash", "-c", properties["source"]["script"]]
        done = subprocess.run(words, env={**os.environ, **values}, capture_output=True, check=False)
        out, err = (text[-SHOWN:].decode() for text in (done.stdout, done.stderr))
        self.view = View(out, err) if self.answers else View("", "no agent")
        return Poller()

    def get_by_virtual_machine(self, *_: Any, **__: Any) -> Command:
        return Command(self.view)

    def begin_delete(self, *given: Any, **_: Any) -> None:
        self.deleted.append(given[-1])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(inside, "_FOLDER", str(tmp_path))
    return Machine(tmp_path)


@pytest.fixture
def commands(machine: Machine) -> Inside:
    azure = Azure(
        settings.load(
            target="azure",
            azure_subscription="00000000-0000-0000-0000-000000000001",
            azure_polling_seconds=0,
        )
    )
    made = Inside(azure, alone=False)
    made._commands = machine
    return made


def test_code_and_both_outputs_come_back(commands: Inside, machine: Machine) -> None:
    answer = commands.execute(1, ["sh", "-c", "echo out; echo 'e r r' >&2; exit 3"])
    assert (answer.code, answer.out, answer.err) == (3, "out\n", "e r r\n")
    assert len(machine.deleted) == len(machine.bodies) == 1
    assert list(machine.folder.iterdir()) == []


def test_an_answer_of_any_size_comes_back_whole(commands: Inside, machine: Machine) -> None:
    # Random text, which packing makes hardly smaller.
    words = [
        "sh",
        "-c",
        "head -c 9000 /dev/urandom | base64 -w0 | tee " + str(machine.folder / "o"),
    ]
    answer = commands.execute(1, words)
    assert len(answer.out) == 12000
    assert answer.out == (machine.folder / "o").read_text()
    assert len(machine.bodies) > 2
    assert len(machine.deleted) == len(machine.bodies)
    assert [one.name for one in machine.folder.iterdir()] == ["o"]


def test_what_goes_in_is_protected_and_nowhere_else(commands: Inside, machine: Machine) -> None:
    secret = "p'\"\\ ss\n#é$(x)"
    assert commands.execute(1, ["cat"], stdin=secret).out == secret
    [body] = machine.bodies
    protected = body["properties"].pop("protectedParameters")
    assert [one["name"] for one in protected] == ["BAKERY_INPUT"]
    assert not re.search(re.escape(protected[0]["value"]), str(body))


def test_words_are_words(commands: Inside) -> None:
    assert commands.execute(1, ["printf", "%s|", "a b", "$HOME", "it's"]).out == "a b|$HOME|it's|"


def test_a_command_that_takes_too_long_ends(commands: Inside) -> None:
    assert commands.execute(1, ["sleep", "20"], timeout=1).code == 124


def test_a_machine_without_an_agent_is_told_as_one_that_does_not_answer(
    commands: Inside, machine: Machine
) -> None:
    machine.answers = False
    answer = commands.execute(1, ["true"])
    assert (answer.code, answer.err) == (255, "no agent")
