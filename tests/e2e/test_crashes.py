"""The machine crashes: every process in it is killed at once, with no shutdown.

This host keeps its page cache, so what MySQL has written is there even if it was not yet on the
disk: it is the death of a machine, not a cut of the power.
"""

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import requests

from tests.e2e.bakery import Bakery, crash, reached, until
from tests.e2e.matrix import chosen, write_report

SECTION = "The machine crashes"
DATA = "/var/lib/mlflow-data"
FIRST_BOOT = {
    "first boot: the data disk is there": f"mountpoint -q {DATA}",
    "first boot: MySQL makes its data directory": f"test -d {DATA}/mysql/data.unfinished",
    "first boot: MySQL's first start": f"test -d {DATA}/mysql/data",
    "first migration: begun": f"grep -qs first {DATA}/state/migration.json",
    "first migration: done": f"grep -qs done {DATA}/state/migration.json",
    "first boot: the server starts": "test -e /run/mlflow-bakery/migration/done",
}
UNDER_LOAD = 12
SLICE = {"boot": 2, "load": 2}
WRITERS = 3
METRICS = 20


@dataclass
class Load:
    """Clients that log runs as fast as they can, and remember each that they were told is kept."""

    bakery: Bakery
    experiment: str
    told: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Log runs until the server is gone or it is over."""
        client = self.bakery.session()
        while not self.over.is_set():
            try:
                self.told.add(self._run(client))
            except (requests.RequestException, KeyError, ValueError):
                return  # it has crashed: nothing was told

    def _run(self, client: requests.Session) -> str:
        def post(path: str, **body: object) -> dict[str, dict[str, dict[str, str]]]:
            done = client.post(self.bakery.url(path), json=body, timeout=30)
            done.raise_for_status()
            return dict(done.json())

        made = post("runs/create", experiment_id=self.experiment, start_time=1)
        run = made["run"]["info"]["run_id"]
        rows = [
            {"key": f"m{number}", "value": number, "timestamp": 1, "step": 0}
            for number in range(METRICS)
        ]
        params = [{"key": "p", "value": run}]
        post("runs/log-batch", run_id=run, metrics=rows, params=params)
        return run


def check_told(bakery: Bakery, told: set[str]) -> None:
    """See that each run that somebody was told is kept is there, whole."""
    client = bakery.session()
    for run in told:
        done = client.get(bakery.url(f"runs/get?run_id={run}"), timeout=30)
        assert done.status_code == 200, done.text
        data = done.json()["run"]["data"]
        assert len(data["metrics"]) == METRICS
        assert data["params"] == [{"key": "p", "value": run}]


def crash_at_first_boot(bakery: Bakery, moment: str) -> str:
    process = bakery.start("deploy")
    try:
        until(lambda: reached(bakery, FIRST_BOOT[moment]), seconds=120, what=moment)
        crash(bakery)
        # With the tool or without: a host that dies takes both.
        if "migration" not in moment:
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=300)
    bakery.ok("deploy")
    assert bakery.status()["state"] == "ready"
    assert bakery.api("experiments/create", "POST", json={"name": "x"}).status_code == 200
    bakery.tables_are_whole()
    bakery.destroy()
    return "serves after the next deploy"


def crash_under_load(bakery: Bakery, experiment: str, seconds: float, told: set[str]) -> str:
    load = Load(bakery, experiment)
    writers = [threading.Thread(target=load.write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        until(lambda: len(load.told) >= WRITERS, seconds=60, what="runs are logged")
        time.sleep(seconds)
        crash(bakery)
    finally:
        load.over.set()
        for writer in writers:
            writer.join(timeout=60)
    bakery.ok("start")
    told |= load.told
    check_told(bakery, told)
    bakery.tables_are_whole()
    return f"{len(load.told)} runs were told to be kept, {len(load.told)} are there"


def test_what_was_told_can_be_found_missing(server: Bakery, experiment: str) -> None:
    """The control: a run that was never logged is noticed."""
    with pytest.raises(AssertionError):
        check_told(server, {uuid.uuid4().hex})


@pytest.fixture(scope="module")
def experiment(server: Bakery) -> str:
    made = server.api("experiments/create", "POST", json={"name": "under load"})
    return str(made.json()["experiment_id"])


@pytest.mark.matrix
def test_whatever_crashes_nothing_is_lost(
    server: Bakery,
    experiment: str,
    make_bakery: Callable[..., Bakery],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    whole = bool(request.config.getoption("--matrix"))
    moments = chosen([*FIRST_BOOT, *list(FIRST_BOOT)[3:5]], SLICE["boot"], whole=whole)
    loads = chosen(range(UNDER_LOAD), SLICE["load"], whole=whole)
    lines: list[str] = []

    def note(case: str, crash: Callable[..., str], *given: object) -> None:
        started = time.monotonic()
        outcome = crash(*given)
        lines.append(f"{time.monotonic() - started:6.1f} s  {case}: {outcome}")
        print(lines[-1])
        record_property("case", lines[-1])

    told: set[str] = set()
    for number in loads:
        seconds = random.Random(number).uniform(0, 3)
        note(f"write load {number}", crash_under_load, server, experiment, seconds, told)
    for moment in moments:
        # A tool that is not killed has to find out by itself, by waiting.
        note(moment, crash_at_first_boot, make_bakery(BAKERY_READY_SECONDS="90"), moment)
    if whole:
        write_report(SECTION, lines)
