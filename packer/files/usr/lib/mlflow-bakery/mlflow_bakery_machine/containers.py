"""The containers as the backups use them: MySQL's programs, and the tools of compose.yaml."""

from __future__ import annotations

import subprocess
import time
from typing import Dict, List, Sequence

from mlflow_bakery_machine.files import MachineError

COMPOSE = (
    "docker", "compose",
    "--file", "/usr/share/mlflow-bakery/compose/compose.yaml",
    "--env-file", "/run/mlflow-bakery/compose.env",
)  # fmt: skip
SERVING = "mlflow-mysql-1"
SCRATCH = "mlflow-scratch-1"
SCHEMA = "mlflow"

_CLIENT = "--defaults-file=/run/secrets/client.cnf"
"""Holds the password: it is in no argument."""
_PACKET = "--max-allowed-packet=1G"
"""As much as one row can take; the programs' defaults are smaller than the server's."""
_START_SECONDS = 180


def dump_command() -> List[str]:
    """Return the command that writes a consistent dump while the server goes on."""
    return [
        "docker", "exec", SERVING, "mysqldump", _CLIENT, _PACKET,
        "--single-transaction", "--routines", "--triggers", "--no-tablespaces", "--hex-blob",
        "--loose-masking-policies=0", "--set-gtid-purged=OFF", SCHEMA,
    ]  # fmt: skip


def load_command() -> List[str]:
    """Return the command that reads a dump into the MySQL that serves nobody."""
    return ["docker", "exec", "--interactive", SCRATCH, "mysql", _CLIENT, _PACKET, SCHEMA]


def query(container: str, statement: str) -> List[List[str]]:
    """Return the rows of a query.

    Raises:
        MachineError: MySQL does not answer it.
    """
    words = ["mysql", _CLIENT, "--batch", "--skip-column-names", "--execute", statement, SCHEMA]
    return [line.split("\t") for line in must(["docker", "exec", container, *words]).splitlines()]


def tables(container: str) -> List[str]:
    """Return the names of the tables."""
    rows = query(container, "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
    return [row[0] for row in rows]


def count(container: str, wishes: Sequence[str]) -> Dict[str, int]:
    """Return how many rows there are of each wish: a table, or a table and a condition.

    A table that is not there has none.
    """
    there = set(tables(container))
    counted = dict.fromkeys(wishes, 0)
    found = [wish for wish in wishes if wish.split(" ", 1)[0] in there]
    if found:
        selects = ["SELECT {}, COUNT(*) FROM {}".format(n, w) for n, w in enumerate(found)]
        for number, rows in query(container, " UNION ALL ".join(selects)):
            counted[found[int(number)]] = int(rows)
    return counted


def start(service: str, container: str) -> None:
    """Start a MySQL alone and wait until it answers.

    Raises:
        MachineError: It does not; the end of its log is in the message.
    """
    must([*COMPOSE, "up", "--detach", "--no-build", "--no-deps", service])
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if _answers(container):
            return
        time.sleep(0.3)
    log = _run(["docker", "logs", "--tail", "10", container])
    raise MachineError("{} does not answer: {}".format(container, log.stderr.strip()))


def stop(service: str) -> None:
    """Stop a service in order and remove its container; nothing to do when it is gone."""
    must([*COMPOSE, "rm", "--stop", "--force", service])


def stop_what_runs() -> None:
    """Stop the containers of a start that failed or was cut off: systemd runs no ExecStop for it.

    Raises:
        MachineError: They could not be stopped.
    """
    if must(["docker", "ps", "--quiet"]).strip():
        must([*COMPOSE, "stop"])


def stop_in_order(service: str, container: str) -> None:
    """Stop a MySQL whose files are to be used, and remove its container.

    Raises:
        MachineError: It had to be killed.
    """
    must([*COMPOSE, "stop", service])
    code = must(["docker", "inspect", "--format", "{{.State.ExitCode}}", container]).strip()
    if code != "0":
        raise MachineError("{} ended with {}".format(container, code))
    stop(service)


def blob(*words: str) -> str:
    """Run compose/mlflow/blob.py and return what it prints.

    Raises:
        MachineError: The store refuses or does not answer.
    """
    done = _run([*COMPOSE, "run", "--rm", "--no-TTY", "--no-deps", "blob", *words])
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise MachineError("Blob: {}".format(lines[-1]))
    return done.stdout


def _answers(container: str) -> bool:
    try:
        query(container, "SELECT 1")
    except MachineError:
        return False
    return True


def must(command: Sequence[str]) -> str:
    """Run a command that has to end well, and return what it prints.

    Raises:
        MachineError: It does not.
    """
    done = _run(command)
    if done.returncode != 0:
        name = " ".join(command[:2])
        raise MachineError("{}: {}".format(name, done.stderr.strip()[-2000:]))
    return done.stdout


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
