"""What the server stands on fails while it serves: told clearly, nothing lost, and it heals."""

import base64
import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.e2e.bakery import Bakery, inside, until

READY = "experiments/search?max_results=1"
DATA = "/var/lib/mlflow-data"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
SLEEP = Path(__file__).parent / "fake_clock" / "sitecustomize.py"
SETTINGS = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
COMPOSE = (
    "docker compose --file /usr/share/mlflow-bakery/compose/compose.yaml {more}"
    " --env-file /run/mlflow-bakery/compose.env"
    " up --detach --no-build --pull never --no-deps mlflow"
)


@pytest.fixture(scope="module")
def run(server: Bakery) -> str:
    """A run to log to."""
    made = server.api("experiments/create", "POST", json={"name": "through it all"})
    experiment = made.json()["experiment_id"]
    body = {"experiment_id": experiment, "start_time": 1}
    return str(server.api("runs/create", "POST", json=body).json()["run"]["info"]["run_id"])


def log(server: Bakery, run: str, key: str) -> requests.Response:
    rows = [{"key": key, "value": 1, "timestamp": 1, "step": 0}]
    return server.api("runs/log-batch", "POST", json={"run_id": run, "metrics": rows})


def log_much(server: Bakery, run: str, number: int) -> requests.Response:
    """Log two thirds of a megabyte."""
    rows = [{"key": f"t{number}-{one}", "value": "x" * 7000} for one in range(95)]
    return server.api("runs/log-batch", "POST", json={"run_id": run, "tags": rows})


def logged(server: Bakery, run: str) -> set[str]:
    data = server.api(f"runs/get?run_id={run}").json()["run"]["data"]
    return {metric["key"] for metric in data.get("metrics", [])}


def ready(server: Bakery) -> bool:
    return server.api(READY).status_code == 200


@contextmanager
def answers(server: Bakery) -> Iterator[list[int]]:
    """Ask all the time meanwhile; the answers are kept."""
    seen: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with server.session() as client:
            while not over.is_set():
                seen.append(client.get(server.url(READY), timeout=30).status_code)
                time.sleep(0.05)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield seen
    finally:
        over.set()
        asker.join(timeout=60)


def test_mysql_that_is_killed_comes_back_by_itself(server: Bakery, run: str) -> None:
    assert log(server, run, "before").status_code == 200
    with answers(server) as seen:
        until(lambda: 200 in seen, seconds=30, what="ready")
        server.ssh("pkill -9 mysqld")
        until(lambda: any(code >= 500 for code in seen), seconds=30, what="red")
        until(lambda: seen[-1] == 200, seconds=90, what="healed")
    assert set(seen) <= {200, 503}
    assert "before" in logged(server, run)
    server.tables_are_whole()


def test_without_the_artifact_store_metrics_go_on(server: Bakery, run: str) -> None:
    file = server.artifact("through/it/all.txt")
    with server.session() as client:
        assert client.put(file, data=b"kept", timeout=60).status_code == 200
        # Azurite writes down each few seconds what it has; Blob does not wait.
        index = server.folder / "azurite" / "data" / "__azurite_db_blob__.json"
        until(lambda: "through/it/all.txt" in index.read_text(), seconds=30, what="written down")
        process = int((server.folder / "azurite" / "azurite.pid").read_text().split()[0])
        os.kill(process, signal.SIGKILL)
        began = time.monotonic()
        refused = client.put(file, data=b"lost", timeout=120)
        assert time.monotonic() - began < 60
        assert refused.status_code == 503
        assert "artifact store does not answer" in refused.json()["message"]
        assert log(server, run, "no store").status_code == 200
        server.ok("start")
        found = client.get(file, timeout=120)
        assert (found.status_code, found.content) == (200, b"kept")
        assert client.put(file, data=b"new", timeout=120).status_code == 200


def free(server: Bakery) -> tuple[int, int]:
    """Return size and free bytes of the data disk."""
    words = f"df --output=size,avail --block-size=1 {DATA}"
    size, left = server.ssh(words).split()[-2:]
    return int(size), int(left)


def test_a_full_data_disk(server: Bakery, run: str) -> None:
    size, left = free(server)
    assert "data disk is" not in server.ok("status").err
    server.ssh(f"fallocate --length {left - size * 5 // 100} {DATA}/filled")
    try:
        assert "warning: the data disk is 9" in server.ok("status").err
        server.ssh(f"fallocate --length {free(server)[1]} {DATA}/filled-up")
        for number in range(40):
            refused = log_much(server, run, number)
            if refused.status_code != 200:
                break
        assert refused.status_code == 503
        assert "is full" in refused.text
        assert ready(server), "what is there can be read"
        assert server.status()["data_disk"].startswith("100%")
    finally:
        server.ssh(f"rm -f {DATA}/filled {DATA}/filled-up")
    until(lambda: log(server, run, "room").status_code == 200, seconds=60, what="it heals")
    assert {"before", "room"} <= logged(server, run)
    server.tables_are_whole()


def test_the_data_disk_grows_and_never_shrinks(server: Bakery, run: str) -> None:
    image, seen = server.status()["image"], logged(server, run)
    size = free(server)[0] >> 30
    for words in (("resize", "--gib", "2"), ("deploy",)):
        server.extra = {"BAKERY_DATA_DISK_GIB": "2"}
        assert "never shrinks" in server.refused(*words).err
    server.extra = {}
    server.ok("resize", "--gib", str(size + 3))
    assert free(server)[0] >> 30 > size
    grown, generation = free(server)[0], server.status()["generation"]
    server.extra = {"BAKERY_DATA_DISK_GIB": str(size + 5)}
    server.ok("deploy", "--image", image)
    server.extra = {}
    assert free(server)[0] > grown
    assert server.status()["generation"] == generation
    assert logged(server, run) == seen


def test_the_guard_refuses_a_disk_that_is_not_ours(server: Bakery) -> None:
    other = "00000000-0000-0000-0000-000000000000"
    change = f"s/{server.facts['data_disk_uuid']}/{other}/"
    server.ssh(f"sh -c 'sed {change} /etc/mlflow-bakery/environment.json >/run/other.json'")
    words = "/usr/lib/mlflow-bakery/data-disk-guard --environment /run/other.json --target /mnt"
    refused = inside(server, words)
    server.ssh("rm /run/other.json")
    assert refused.returncode == 1
    assert f"wanted is ext4 with UUID {other}. It was not touched" in refused.stderr
    assert ready(server)


def test_a_clock_that_jumps_does_not_mislead_the_tool(server: Bakery, tmp_path: Path) -> None:
    """Of this process alone: the host's clock and the machine's are as they are."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    server.ok("stop")
    server.extra = {
        **SETTINGS,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "PYTHONPATH": str(SLEEP.parent),
    }
    process = server.start("start")
    try:
        assert process.stderr is not None
        assert "done" in process.stderr.readline(), "its first step has ended"
        clock.write_text("+30d")
        other = Bakery(server.state, server.name).run("stop")
        time.sleep(1)
        clock.write_text("-30m")  # no further: certificates begin an hour before they are made
    finally:
        _out, said = process.communicate(timeout=300)
        server.extra = {}
    assert process.returncode == 0, said
    assert other.code == 1
    assert "is being worked on by" in other.err, "two runs at once"
    assert "process " in other.err
    assert server.status()["state"] == "ready"


@contextmanager
def faked(server: Bakery) -> Iterator[None]:
    """Run MLflow, and it alone, by the clock in /opt/faketime/clock."""
    more = {
        "environment": {
            **SETTINGS,
            "LD_PRELOAD": f"/faketime/{FAKETIME.name}",
            "FAKETIME_TIMESTAMP_FILE": "/faketime/clock",
            "PYTHONPATH": "/faketime:/opt/mlflow",
        },
        "volumes": ["/opt/faketime:/faketime:ro"],
    }
    put(server, FAKETIME.read_bytes(), f"/opt/faketime/{FAKETIME.name}")
    put(server, json.dumps({"services": {"mlflow": more}}).encode(), "/opt/faketime/more.yaml")
    put(server, b"+0\n", "/opt/faketime/clock")
    put(server, SLEEP.read_bytes(), f"/opt/faketime/{SLEEP.name}")
    server.ssh(COMPOSE.format(more="--file /opt/faketime/more.yaml"))
    try:
        until(lambda: ready(server), seconds=90, what="MLflow with a clock of its own")
        yield
    finally:
        server.ssh(COMPOSE.format(more=""))
        until(lambda: ready(server), seconds=90, what="MLflow with the machine's clock")


def put(server: Bakery, content: bytes, path: str) -> None:
    command = f"mkdir -p {Path(path).parent} && base64 -d >{path}"
    done = inside(server, f"sh -c {shlex.quote(command)}", base64.b64encode(content).decode())
    assert done.returncode == 0, done.stderr


def test_a_clock_that_jumps_under_mlflow_loses_nothing(server: Bakery, run: str) -> None:
    with faked(server):
        for number, (jump, hours) in enumerate({"+2d": 48, "-2d": -48, "+0": 0}.items()):
            put(server, f"{jump}\n".encode(), "/opt/faketime/clock")
            now = int(server.ssh("docker exec mlflow-mlflow-1 date +%s"))
            assert abs(now - time.time() - 3600 * hours) < 600, "the control: it has jumped"
            assert log(server, run, f"jump {number}").status_code == 200
    assert {"jump 0", "jump 1", "jump 2"} <= logged(server, run)
