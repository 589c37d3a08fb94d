"""The short look inside: each question asked of a real shell, and faults that it must find."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bakery.checks import check_by_command
from bakery.errors import BakeryError
from bakery.state import Generation
from bakery.targets.base import Answer

UUID = "5f0c1e2a-1111-4222-8333-444455556666"
HEALTHY = "".join(f"mlflow-{name}-1\tUp (healthy)\\n" for name in ("mysql", "mlflow", "traefik"))


class Machine:
    """Runs the script with programs of the test."""

    def __init__(self, folder: Path) -> None:
        self.deployment = SimpleNamespace(data_disk_uuid=UUID)
        self.folder = folder
        self.secret = "the-key"
        self.program("systemctl", "exit 0")
        self.program("findmnt", f"echo {UUID}")
        self.containers("no secret")

    def program(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o700)

    def containers(self, inspected: str, rows: str = HEALTHY) -> None:
        text = f"case $1 in ps) printf '{rows}';; *) echo '{inspected}';; esac"
        self.program("docker", text)

    def environment(self, mode: int = 0o600) -> None:
        file = self.folder / "environment.json"
        file.write_text(json.dumps({"storage": {"key": self.secret}, "check_token": "t0ken"}))
        file.chmod(mode)

    def execute(self, _: Any, words: list[str], *, stdin: str, timeout: float) -> Answer:
        script = stdin.replace("/var/lib/mlflow-data/environment", f"{self.folder}/environment")
        script = script.replace("/etc/mlflow-bakery/environment", f"{self.folder}/environment")
        script = script.replace("/home/", f"{self.folder}/home-")
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            words, input=script, env=env, capture_output=True, text=True, check=False,
            timeout=timeout,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.environment()
    return made


def wrong(machine: Any) -> list[str]:
    found = check_by_command(machine, Generation(number=1, image="x"))
    assert len(found) > 8
    return [one.name for one in found if not one.ok]


def test_a_good_machine_is_good(machine: Machine) -> None:
    assert wrong(machine) == []


def test_each_fault_is_found(machine: Machine) -> None:
    machine.program("systemctl", "echo docker.service")
    machine.program("findmnt", "echo another")
    machine.containers("key: the-key", HEALTHY.replace("Up (healthy)", "Exited (1)"))
    machine.environment(0o644)
    (machine.folder / "home-bake").mkdir()
    found = set(wrong(machine))
    assert {"no unit has failed", "mysql is healthy", "the data disk is this deployment's"} <= found
    assert {"no secret of it is in docker inspect", "there is no user bake"} <= found
    assert any("root's alone" in name for name in found)
    assert "there is no user packer" not in found


def test_a_machine_that_does_not_answer_is_told(machine: Any) -> None:
    machine.execute = lambda *_, **__: Answer(255, "", "no agent")
    with pytest.raises(BakeryError, match="could not be looked at"):
        check_by_command(machine, Generation(number=1, image="x"))
