"""Waits until the containers serve, or says which one does not and why."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from enum import Enum
from typing import Any, Dict, List, Mapping, Optional

MIGRATE, MLFLOW, MYSQL, TRAEFIK = (
    "mlflow-" + service + "-1" for service in ("migrate", "mlflow", "mysql", "traefik")
)


class Verdict(Enum):
    """How far the containers are."""

    WAIT = "wait"
    READY = "ready"
    FAILED = "failed"


def judge(states: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Return how far the containers are, from the State that Docker reports by their name."""
    migrate = states.get(MIGRATE, {})
    if migrate.get("Status") == "exited" and migrate.get("ExitCode") != 0:
        return Verdict.FAILED
    healthy = all(
        states.get(name, {}).get("Health", {}).get("Status") == "healthy"
        for name in (MYSQL, MLFLOW, TRAEFIK)
    )
    if healthy and migrate.get("Status") == "exited":
        return Verdict.READY
    return Verdict.WAIT


def read_states() -> Dict[str, Any]:
    """Return each container's State by its name; what cannot be read is left out."""
    done = _docker(["inspect", "--format", "{{.Name}} {{json .State}}", *_names()])
    states = {}
    for line in done.stdout.splitlines():
        name, _, state = line.partition(" ")
        if state:
            states[name.lstrip("/")] = json.loads(state)
    return states


def wait_ready(timeout: float) -> Verdict:
    """Wait until the server is ready or cannot become so; `timeout` is in seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        verdict = judge(read_states())
        if verdict is not Verdict.WAIT:
            return verdict
        time.sleep(0.5)
    return Verdict.WAIT


def _names() -> List[str]:
    return [MYSQL, MIGRATE, MLFLOW, TRAEFIK]


def _docker(arguments: List[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )


def _explain(verdict: Verdict) -> None:
    states = read_states()
    if verdict is Verdict.FAILED:
        print("mlflow-bakery: the migration of the database failed:", file=sys.stderr)
        print(_docker(["logs", "--tail", "20", MIGRATE]).stdout, file=sys.stderr)
        return
    for name in _names():
        state = states.get(name, {})
        health = state.get("Health", {}).get("Status", "no health check")
        print(
            "mlflow-bakery: {} is {} ({})".format(name, state.get("Status", "not there"), health),
            file=sys.stderr,
        )


def main(arguments: Optional[List[str]] = None) -> int:
    """Wait until the server is ready; the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    verdict = wait_ready(parser.parse_args(arguments).timeout)
    if verdict is Verdict.READY:
        return 0
    _explain(verdict)
    return 1
