"""The machine on duty and off: standby, activated, admitted, quiesced; one verb each."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from mlflow_bakery_machine.containers import COMPOSE, SERVING, must, query, stop_what_runs
from mlflow_bakery_machine.files import MachineError, Rendered, write_file
from mlflow_bakery_machine.guard import mounted_device
from mlflow_bakery_machine.prepare import Places, prepare, prepare_standby

_SERVER = "mlflow.service"
_DISK = "mlflow-data-disk.service"
_BACKUPS = ("mlflow-backup.timer", "mlflow-backup.service")
_COUNTED = ("experiments", "runs", "metrics", "params", "tags", "registered_models")
_MLFLOW = "mlflow-mlflow-1"
_IMPORTED = "waiting for the migration"
"""What compose/mlflow/entry.py says."""
_WAIT_SECONDS = 60
_CHEAP = ("experiments", "runs")
_PROGRAMS = {"mysql": "usr/sbin/mysqld", "traefik": "usr/local/bin/traefik"}
"""What the rest of a start reads from the disk."""
_COUNT_SECONDS = 5
"""A count of a very large table must not keep clients waiting for long."""


def standby(places: Places) -> None:
    """While the data disk is awaited, let MLflow import what it needs; that takes longest."""
    if mounted_device(places.data) is None:
        prepare_standby(places)
        must([*COMPOSE, "up", "--detach", "--no-build", "--pull", "never", "--no-deps", "mlflow"])
        images = json.loads((places.share / "images.json").read_text(encoding="utf-8"))
        for name, program in _PROGRAMS.items():
            _read_ahead(images[name]["reference"], program)


def wait(places: Places) -> None:
    """Wait until MLflow has imported what it needs: then a standby is as far as it can be.

    Raises:
        MachineError: It cannot; the end of its log is in the message.
    """
    del places
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        if _has_imported():
            return
        time.sleep(0.2)


def activate(places: Places) -> None:
    """Take the data disk into use and start the server; nothing to do when that is under way."""
    del places
    must(["systemctl", "start", "--no-block", _DISK, _SERVER, _BACKUPS[0]])


def admit(places: Places) -> None:
    """Let every client in, now or as soon as the server runs, and after a reboot."""
    write_file(places.admitted, Rendered(""))
    if mounted_device(places.data) is not None:
        prepare(places, running=True)


def close(places: Places) -> None:
    """Let nobody in but the checks; the others are told to come again."""
    if places.admitted.exists():
        places.admitted.unlink()
    if mounted_device(places.data) is not None:
        prepare(places, running=True)


def count(places: Places) -> Dict[str, int]:
    """Return how many rows the tables have, those that can be counted in time."""
    del places
    return _count(_COUNTED) or _count(_CHEAP)


def quiesce(places: Places) -> Dict[str, int]:
    """Finish what is under way, stop the server, unmount the data disk; return the last count.

    Raises:
        MachineError: The data disk is still in use.
    """
    close(places)
    counted: Dict[str, int] = {}
    if mounted_device(places.data) is not None:
        # MLflow answers what it has begun; then nobody writes any more.
        _run(["docker", "stop", _MLFLOW])
        counted = count(places)
    _run(["systemctl", "stop", *_BACKUPS, _SERVER])
    stop_what_runs()
    _run(["systemctl", "stop", _DISK])
    device = mounted_device(places.data)
    if device is not None:
        raise MachineError("{} is still mounted from {}".format(places.data, device))
    return counted


def _has_imported() -> bool:
    """Return whether MLflow says so; a machine that was kept has the log of its earlier life, too.

    Raises:
        MachineError: It was started again and again.
    """
    words = ["docker", "inspect", "--format", "{{.RestartCount}} {{.State.StartedAt}}", _MLFLOW]
    done = _run(words)
    if done.returncode != 0:
        return False
    restarts, started = done.stdout.split()
    log = _run(["docker", "logs", "--tail", "20", "--since", started, _MLFLOW]).stdout
    if _IMPORTED not in log and int(restarts) > 1:
        last = _run(["docker", "logs", "--tail", "20", _MLFLOW]).stdout
        raise MachineError("MLflow does not start: {}".format(last.strip()))
    return _IMPORTED in log


def _read_ahead(image: str, program: str) -> None:
    """Read a program of an image once: from memory it starts sooner. Not finding it is no fault."""
    template = "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}"
    layers = _run(["docker", "image", "inspect", "--format", template, image]).stdout.strip()
    for layer in layers.split(":"):
        path = Path(layer) / program
        if path.is_file():
            with path.open("rb") as stream:
                while stream.read(1 << 20):
                    pass
            return


def _count(tables: Sequence[str]) -> Dict[str, int]:
    """Return the rows of tables; nothing if that takes too long or MySQL does not answer."""
    selects = " UNION ALL ".join("SELECT '{0}', COUNT(*) FROM {0}".format(t) for t in tables)
    limit = "SET SESSION max_execution_time = {}; ".format(_COUNT_SECONDS * 1000)
    try:
        return {name: int(rows) for name, rows in query(SERVING, limit + selects)}
    except MachineError as error:
        print("not counted: {}".format(error), file=sys.stderr)
        return {}


def _run(command: List[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; what it does not achieve is seen afterwards."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )


_VERBS: Dict[str, Callable[[Places], Any]] = {
    "standby": standby,
    "activate": activate,
    "admit": admit,
    "close": close,
    "count": count,
    "quiesce": quiesce,
    "wait": wait,
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Do one of them and print what it found as JSON; the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("verb", choices=sorted(_VERBS))
    verb = parser.parse_args(arguments).verb
    try:
        print(json.dumps(_VERBS[verb](Places())))
    except (MachineError, OSError) as error:
        print("mlflow-bakery: {}".format(error), file=sys.stderr)
        return 1
    return 0
