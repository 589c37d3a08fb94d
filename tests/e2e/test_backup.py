"""Backups of a real server: made while it serves, tried, restored, and whatever ends them.

One server for all; the tests go from what harms nothing to the loss of the whole data disk.
"""

import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from bakery import pool
from tests.e2e.bakery import Bakery, crash, inside, until
from tests.e2e.matrix import chosen, write_report

STORE = "/var/lib/mlflow-data/backups/store"
SECTION = "Restores cut off"
SLICE = 3
STEPS = ("Fetch and verify", "Load it into", "Put it in place", "Ready")


def post(bakery: Bakery, path: str, **body: Any) -> dict[str, Any]:
    done = bakery.api(path, "POST", json=body)
    assert done.status_code == 200, done.text
    return dict(done.json())


def artifact(bakery: Bakery, path: str, content: bytes | None = None) -> bytes:
    """Put an artifact through the server, or get it."""
    client = bakery.client()
    done = requests.request(
        "GET" if content is None else "PUT",
        f"{client['MLFLOW_TRACKING_URI']}/api/2.0/mlflow-artifacts/artifacts/{path}",
        data=content,
        auth=(client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]),
        verify=client["MLFLOW_TRACKING_SERVER_CERT_PATH"],
        timeout=60,
    )
    assert done.status_code == 200, done.text
    return done.content


def log_run(bakery: Bakery, experiment: str, name: str) -> str:
    made = post(bakery, "runs/create", experiment_id=experiment, run_name=name, start_time=1)
    run = str(made["run"]["info"]["run_id"])
    post(bakery, "runs/log-parameter", run_id=run, key="lr", value="it's ),( \\ 0.1 ü")
    post(bakery, "runs/log-metric", run_id=run, key="loss", value=0.25, timestamp=1, step=0)
    return run


def runs(bakery: Bakery) -> set[str]:
    """Return the names of the runs that a client sees."""
    listed = bakery.api("experiments/search?max_results=100").json()["experiments"]
    ids = [one["experiment_id"] for one in listed]
    found = post(bakery, "runs/search", experiment_ids=ids, max_results=1000)
    return {one["info"]["run_name"] for one in found.get("runs", [])}


def backups(bakery: Bakery) -> dict[str, dict[str, Any]]:
    listed = json.loads(bakery.ok("backup", "--list", "--json").out)
    return {one["name"]: one for one in listed}


def backup(bakery: Bakery) -> dict[str, Any]:
    return dict(json.loads(bakery.ok("backup", "--json").out))


@pytest.fixture(scope="module")
def experiment(server: Bakery) -> str:
    return str(post(server, "experiments/create", name="backed up")["experiment_id"])


@pytest.fixture(scope="module")
def model_run(server: Bakery, experiment: str) -> str:
    """A run with an artifact, and a model that points to it."""
    run = log_run(server, experiment, "with a model")
    artifact(server, f"{experiment}/{run}/artifacts/model/MLmodel", b"flavors: {}\n")
    post(server, "registered-models/create", name="kept")
    source = f"mlflow-artifacts:/{experiment}/{run}/artifacts/model"
    post(server, "model-versions/create", name="kept", source=source, run_id=run)
    return run


@pytest.fixture(scope="module")
def first(server: Bakery, experiment: str, model_run: str) -> dict[str, Any]:
    """The backup that the tests restore."""
    return backup(server)


def test_a_backup_lies_in_two_places_and_tells_what_is_in_it(
    server: Bakery, first: dict[str, Any]
) -> None:
    rows = first["rows"]
    for table, wanted in {"runs": 1, "metrics": 1, "params": 1, "registered_models": 1}.items():
        assert rows[table] == wanted, table
    assert rows["experiments"] == 2
    listed = backups(server)[first["name"]]
    assert listed["places"] == ["data disk", "Blob"]
    assert {key: listed[key] for key in first} == first
    assert server.status()["last_backup"]["name"] == first["name"]
    assert first["name"] in server.ok("backup", "--list").out


def test_the_machine_makes_one_each_day(server: Bakery) -> None:
    before = set(backups(server))
    assert server.ssh("systemctl is-active mlflow-backup.timer").strip() == "active"
    server.ssh("systemctl start mlflow-backup.service")
    made = set(backups(server)) - before
    assert len(made) == 1
    assert backups(server)[made.pop()]["places"] == ["data disk", "Blob"]


def test_runs_that_were_logged_before_a_backup_began_are_in_it(
    server: Bakery, experiment: str
) -> None:
    busy = threading.Event()
    logged: list[str] = []

    def write() -> None:
        while not busy.is_set():
            name = f"busy {len(logged)}"
            log_run(server, experiment, name)
            logged.append(name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: len(logged) >= 3, seconds=60, what="runs are logged")
        before = len(logged)
        made = backup(server)
        after = len(logged)
    finally:
        busy.set()
        writer.join(timeout=120)
    assert after > before, "nobody was held up"
    assert before + 1 <= made["rows"]["runs"] <= after + 2
    assert "tables have the rows" in server.ok("restore", made["name"], "--drill").err


def test_a_drill_touches_nothing(server: Bakery, first: dict[str, Any]) -> None:
    probe = "stat --format %i /var/lib/mlflow-data/mysql/data"
    seen, inode = runs(server), server.ssh(probe)
    done = json.loads(server.ok("restore", first["name"], "--drill", "--json").out)
    assert done["rows"] == first["rows"]
    assert (runs(server), server.ssh(probe)) == (seen, inode)
    assert "scratch" not in server.ssh("docker ps --all")
    assert server.ssh("ls /var/lib/mlflow-data/mysql/scratch") == ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("truncate --size=-7 {dump}", "truncated"),
        ("dd if=/dev/zero of={dump} bs=1 seek=99 count=9 conv=notrunc status=none", "altered"),
        ("sed -i s/{revision}/fffffffffff0/ {manifest}", "does not know"),
    ],
    ids=["truncated", "altered", "newer"],
)
def test_a_bad_backup_is_refused_and_blob_has_a_good_one(
    damage: str, said: str, server: Bakery, first: dict[str, Any]
) -> None:
    name, seen = first["name"], runs(server)
    paths = {"dump": f"{STORE}/{name}.sql.gz", "manifest": f"{STORE}/{name}.json"}
    server.ssh(damage.format(**paths, revision=first["revision"]))
    for words in ([], ["--drill"], ["--replace-data"]):
        done = server.refused("restore", name, *words)
        assert said in done.err
        assert "hint: " in done.err
    assert runs(server) == seen
    server.ok("restore", name, "--drill", "--from-blob")


def test_other_bad_input(server: Bakery, first: dict[str, Any]) -> None:
    seen = runs(server)
    for name in ("mlflow-20200101T000000Z", "../x", "a b", "'; reboot"):
        assert "no backup is called" in server.refused("restore", name).err
    done = server.refused("restore", first["name"])
    assert "runs, experiments or models" in done.err
    assert "--replace-data" in done.err
    assert runs(server) == seen


def test_a_restore_brings_back_what_was_and_keeps_what_was_replaced(
    server: Bakery, first: dict[str, Any], experiment: str
) -> None:
    log_run(server, experiment, "after the backup")
    seen = runs(server)
    done = json.loads(server.ok("restore", first["name"], "--replace-data", "--json").out)
    assert runs(server) == {"with a model"}
    kept = done["backup_before"]
    assert backups(server)[kept]["kept"] == f"before the restore of {first['name']}"
    assert server.ssh("ls /var/lib/mlflow-data/mysql").split() == ["data", "scratch", "tmp"]
    server.ok("restore", kept, "--replace-data")
    assert runs(server) == seen


@dataclass(frozen=True)
class Cut:
    """Something that ends a restore: the tool killed in a step, or the machine at a moment."""

    what: str
    at: str

    def __str__(self) -> str:
        return f"the {self.what} is killed: {self.at}"


CRASHES = {
    "loading": ("docker inspect mlflow-scratch-1", 0),
    "the server stops": ("systemctl is-active mlflow.service", 3),
    "the new data is in its place": ("test -d /var/lib/mlflow-data/mysql/data.replaced", 0),
}
CUTS = [*(Cut("tool", step) for step in STEPS), *(Cut("machine", moment) for moment in CRASHES)]


@pytest.mark.matrix
def test_a_restore_that_is_cut_off_leaves_the_old_or_the_new(
    server: Bakery,
    first: dict[str, Any],
    experiment: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    whole = bool(request.config.getoption("--matrix"))
    lines = []
    for cut in chosen(CUTS, SLICE, whole=whole):
        started = time.monotonic()
        log_run(server, experiment, f"before {cut}")
        seen = runs(server)
        (kill_tool if cut.what == "tool" else crash_while_restoring)(server, first["name"], cut.at)
        found = runs(server)
        assert found in (seen, {"with a model"}), cut
        server.tables_are_whole()
        serves = "what was there" if found == seen else "the backup"
        lines.append(f"{time.monotonic() - started:6.1f} s  {cut}: {serves} serves")
        record_property("case", lines[-1])
    server.ok("restore", first["name"], "--replace-data")
    assert runs(server) == {"with a model"}
    if whole:
        write_report(SECTION, lines)


def kill_tool(server: Bakery, name: str, step: str) -> None:
    """Kill the tool in a step of a restore; what was begun in the machine ends there."""
    process = server.start("restore", name, "--replace-data")
    wait_for_step(process, step)
    time.sleep(0.7)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    server.ssh("flock --wait 300 /run/mlflow-backup.lock true")
    until(lambda: server.status()["state"] == "ready", seconds=180, what="ready again")


def wait_for_step(process: Any, step: str) -> None:
    """Wait until the step before one has ended."""
    ended = STEPS.index(step)
    while ended:
        line = process.stderr.readline()
        assert line, f"ended before {step}"
        ended -= " … done " in line and line.startswith(STEPS)


def crash_while_restoring(server: Bakery, name: str, moment: str) -> None:
    """Kill the whole machine, and so every process in it, at a moment of a restore."""
    process = server.start("restore", name, "--replace-data")
    probe, code = CRASHES[moment]
    try:
        until(lambda: inside(server, probe).returncode == code, seconds=120, what=moment)
        crash(server)
    finally:
        process.communicate(timeout=300)
    assert process.returncode == 1
    server.ok("start")


WAIT = "/usr/lib/mlflow-bakery/wait-ready"
NEVER = f"""
mv {WAIT} {WAIT}.real
cat >{WAIT} <<'SH'
#!/bin/sh
test ! -d /var/lib/mlflow-data/mysql/data.replaced && exec {WAIT}.real
SH
chmod 755 {WAIT}
"""


def test_a_restore_that_does_not_become_ready_is_taken_back(
    server: Bakery, first: dict[str, Any], experiment: str
) -> None:
    log_run(server, experiment, "serves on")
    seen = runs(server)
    server.ssh(f"sh -c {shlex.quote(NEVER)}")
    try:
        failed = server.run("restore", first["name"], "--replace-data")
    finally:
        server.ssh(f"mv {WAIT}.real {WAIT}")
    assert failed.code == 1, failed.said
    assert "the data before it serves again" in failed.said
    assert runs(server) == seen
    assert server.status()["state"] == "ready"
    server.tables_are_whole()
    server.ok("restore", first["name"], "--replace-data")
    assert runs(server) == {"with a model"}, "the control: it would have become ready"


def test_the_loss_of_the_data_disk_loses_nothing(
    server: Bakery, state: Path, image: str, experiment: str, model_run: str
) -> None:
    log_run(server, experiment, "just before the loss")
    newest = backup(server)
    seen = runs(server)
    server.ok("stop")
    with pool.opened(state.absolute()) as disks:
        (disks / "data" / f"{server.name}.raw").unlink()
    for verb in ("deploy", "start"):
        assert "--new-data-disk" in server.refused(verb).err
    server.ok("deploy", "--new-data-disk", "--image", image)
    assert runs(server) == set()
    server.refused("deploy", "--new-data-disk")
    assert backups(server)[newest["name"]]["places"] == ["Blob"]
    server.ok("restore", "newest")
    assert runs(server) == seen
    found = server.api(f"runs/get?run_id={model_run}").json()["run"]["data"]
    assert found["params"] == [{"key": "lr", "value": "it's ),( \\ 0.1 ü"}]
    assert artifact(server, f"{experiment}/{model_run}/artifacts/model/MLmodel") == b"flavors: {}\n"
    version = server.api("model-versions/get?name=kept&version=1").json()["model_version"]
    assert version["run_id"] == model_run
