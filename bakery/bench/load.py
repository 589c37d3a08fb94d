"""Requests per second through the front door and past it; memory at rest, size on disk."""

import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import tenacity

from bakery import ssh
from bakery.bake import bake
from bakery.bench.measure import Measure
from bakery.checks import door
from bakery.deploy import deploy
from bakery.errors import BakeryError
from bakery.log import note
from bakery.run import environment
from bakery.settings import Settings
from bakery.targets.base import Server

_API = "/api/2.0/mlflow"
_SECONDS = 5.0
_CLIENTS = (1, 8)
_METRICS = 10
_IDLE_SECONDS = 20

# PSS counts what processes share once, where the sum of RSS counts it for each of them.
_PSS = r"""
pss() { awk '/^Pss:/ { sum += $2 } END { print sum + 0 }'; }
for name in $(docker ps --format '{{.Names}}'); do
    found=$(for pid in $(docker top "$name" -eo pid | tail -n +2); do
        cat "/proc/$pid/smaps_rollup" 2>/dev/null
    done | pss)
    echo "$name $found"
done
echo "machine $(cat /proc/[0-9]*/smaps_rollup 2>/dev/null | pss)"
"""


Call = Callable[[int, int], tuple[str, object]]
"""From the numbers of a client and of its request to the request's path and body."""


@dataclass(frozen=True)
class Way:
    """One way to the same MLflow."""

    name: str
    base: str
    session: Callable[[], requests.Session]


def request_rates(settings: Settings, runs: int) -> list[Measure]:
    """Row (d): log-batch and search-runs with 1 and 8 clients, with login over HTTPS and without.

    The way past Traefik goes through SSH, which costs about what TLS does.
    """
    server = _deployed(settings)
    measures: list[Measure] = []
    with _ways(server) as ways, _runs_to_log_to(ways[0]) as (experiment, run_ids):
        for title, call in _calls(experiment, run_ids).items():
            for clients in _CLIENTS:
                for way in ways:
                    what = f"{title}, {clients} clients, {way.name}"
                    measures += _repeated(way, call, clients, runs, what)
    return measures


def memory_and_size(settings: Settings, runs: int) -> list[Measure]:
    """Row (e): PSS of each container and of the whole machine at rest, and the image's size."""
    server = _deployed(settings)
    manifest = bake(settings)
    _tell_of_limits(server)
    taken: dict[str, list[float]] = {}
    for _ in range(runs):
        time.sleep(_IDLE_SECONDS)
        for name, value in _pss(server).items():
            taken.setdefault(name, []).append(value)
    aims = {"machine": "under 1638"}
    memory = [
        Measure("e", f"PSS of {name}", values, "MiB", aims.get(name, ""))
        for name, values in taken.items()
    ]
    return [
        *memory,
        Measure("e", "image: what it takes on the host", [manifest.disk_used / 2**20], "MiB"),
        Measure("e", "image: disk that the machine sees", [manifest.disk_size / 2**20], "MiB"),
    ]


def _deployed(settings: Settings) -> Server:
    return deploy(settings, image=bake(settings).id)


def _tell_of_limits(server: Server) -> None:
    """Say so where the containers' memory limits are not held: Docker drops them silently."""
    controllers = ssh.command(server.login, ["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout
    if "memory" not in controllers.split():
        note("containers' memory limits are not enforced: this host delegates no controller")


def _pss(server: Server) -> dict[str, float]:
    done = ssh.command(server.login, ["sudo", "sh", "-s"], stdin=_PSS)
    rows = [line.split() for line in done.stdout.splitlines()]
    found = {name: int(value) / 1024 for name, value in rows}
    if done.returncode != 0 or not all(found.values()) or len(found) < 4:
        raise BakeryError("the memory of the machine could not be read", tail=done.stderr)
    return found


@contextmanager
def _ways(server: Server) -> Iterator[list[Way]]:
    front = door.front(server)

    def direct() -> requests.Session:
        made = requests.Session()
        made.trust_env = False
        made.headers["Host"] = server.hostname
        return made

    with _forwarded(server) as port:
        yield [
            Way("HTTPS + login", door.base(front), lambda: door.session(front, front.login)),
            Way("MLflow directly", f"http://127.0.0.1:{port}", direct),
        ]


@contextmanager
def _forwarded(server: Server) -> Iterator[int]:
    """Give a port on this host that leads to MLflow's container."""
    template = '{{(index .NetworkSettings.Networks "mlflow_front").IPAddress}}'
    words = ["sudo", "docker", "inspect", "--format", template, "mlflow-mlflow-1"]
    found = ssh.command(server.login, words)
    if found.returncode != 0:
        raise BakeryError("MLflow's container has no address", tail=found.stderr)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    access = server.login
    argv = [
        *("ssh", *access.options, "-p", str(access.port), "-N", "-o", "ExitOnForwardFailure=yes"),
        *("-L", f"127.0.0.1:{port}:{found.stdout.strip()}:5000", f"{access.user}@{access.host}"),
    ]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment()) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


@tenacity.retry(
    stop=tenacity.stop_after_delay(15),
    wait=tenacity.wait_fixed(0.1),
    retry=tenacity.retry_if_exception_type(OSError),
    reraise=True,
)
def _wait_for(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


@contextmanager
def _runs_to_log_to(way: Way) -> Iterator[tuple[str, list[str]]]:
    """Give an experiment with a run for each client; it goes into the bin with all of them."""
    with way.session() as session:
        name = f"bakery-bench-{time.time_ns()}"
        experiment = _post(session, way, "experiments/create", {"name": name})["experiment_id"]
        new = {"experiment_id": experiment, "start_time": int(time.time() * 1000)}
        made = [_post(session, way, "runs/create", new) for _ in range(max(_CLIENTS))]
        try:
            yield experiment, [one["run"]["info"]["run_id"] for one in made]
        finally:
            _post(session, way, "experiments/delete", {"experiment_id": experiment})


def _calls(experiment: str, run_ids: list[str]) -> dict[str, Call]:
    def log_batch(client: int, step: int) -> tuple[str, object]:
        now = int(time.time() * 1000)
        metrics = [
            {"key": f"m{number}", "value": step, "timestamp": now, "step": step}
            for number in range(_METRICS)
        ]
        return "runs/log-batch", {"run_id": run_ids[client], "metrics": metrics}

    def search(_client: int, _step: int) -> tuple[str, object]:
        return "runs/search", {"experiment_ids": [experiment], "max_results": 10}

    return {f"log-batch of {_METRICS}": log_batch, "search-runs": search}


def _post(session: requests.Session, way: Way, path: str, body: object) -> dict[str, Any]:
    answer = session.post(f"{way.base}{_API}/{path}", json=body, timeout=30, allow_redirects=False)
    if answer.status_code != 200:
        raise BakeryError(f"{path} answered {answer.status_code}", tail=answer.text[:300])
    return dict(answer.json())


def _repeated(way: Way, call: Call, clients: int, runs: int, what: str) -> list[Measure]:
    taken = [_load(way, call, clients) for _ in range(runs)]
    milliseconds = [[1000 * value for value in latencies] for latencies in taken]
    rates = [len(latencies) / _SECONDS for latencies in taken]
    centiles = [statistics.quantiles(values, n=20) for values in milliseconds]
    return [
        Measure("d", what, rates, "requests/s"),
        Measure("d", f"{what}: p50", [values[9] for values in centiles], "ms"),
        Measure("d", f"{what}: p95", [values[18] for values in centiles], "ms"),
    ]


def _load(way: Way, call: Call, clients: int) -> list[float]:
    """Return the seconds of each request, of all clients together, after a first unmeasured one."""
    together = threading.Barrier(clients)

    def client(number: int) -> list[float]:
        latencies: list[float] = []
        with way.session() as session:
            _post(session, way, *call(number, 0))
            together.wait(60)
            until = time.monotonic() + _SECONDS
            while (started := time.monotonic()) < until:
                _post(session, way, *call(number, len(latencies) + 1))
                latencies.append(time.monotonic() - started)
        return latencies

    with ThreadPoolExecutor(clients) as threads:
        return [one for many in threads.map(client, range(clients)) for one in many]
