"""SIGKILL at every journalled step of a first deploy, a replacement, an undo and a rollback.

The steps are those that recorded runs show. The next call converges, and every run that a client
was told of is there.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.bakery import Bakery
from tests.e2e.clients import Probe
from tests.e2e.matrix import chosen, write_report

REPLACE = ("deploy", "--replace")
SLICE = 8
TITLE = "Killed at every step of a replacement"


@dataclass(frozen=True)
class Case:
    """A SIGKILL as the journal says that a step of a verb begins."""

    what: str
    verb: tuple[str, ...]
    step: str

    def __str__(self) -> str:
        return f"{self.what}: SIGKILL at '{self.step}'"


def journal(bakery: Bakery) -> str:
    """Return the step that is under way, or nothing."""
    try:
        pending = json.loads((bakery.folder / "deployment.json").read_text())["pending"]
    except FileNotFoundError:
        return ""
    return str(pending["step"]) if pending else ""


def record(bakery: Bakery, what: str, *verb: str, fails: bool = False) -> list[Case]:
    """Run a verb and return a case for each step that it wrote down."""
    process = bakery.start(*verb)
    seen: list[str] = []
    while process.poll() is None:
        step = journal(bakery)
        if step and step not in seen:
            seen.append(step)
        time.sleep(0.001)
    _, err = process.communicate()
    assert bool(process.returncode) == fails, err
    return [Case(what, verb, step) for step in seen]


def kill(bakery: Bakery, case: Case) -> bool:
    """Start the verb and kill it when the step is written down; return whether it got there."""
    process = bakery.start(*case.verb)
    try:
        while journal(bakery) != case.step and process.poll() is None:
            time.sleep(0.001)
        reached = process.poll() is None
        if reached:
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=240)
    return reached


def converged(bakery: Bakery) -> None:
    """One machine serves, nothing is pending, only what is kept is there."""
    status = bakery.status()
    assert (status["state"], status["pending"]) == ("ready", None), status
    machines = {int(path.name): path for path in (bakery.folder / "machines").iterdir()}
    assert set(machines) == {status["generation"], status["previous"]} - {None}
    alive = [number for number, path in machines.items() if (path / "supervisor.pid").exists()]
    assert alive == [status["generation"]]


@pytest.mark.matrix
def test_a_kill_at_every_step(
    make_bakery: Callable[..., Bakery],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    bakery = make_bakery()
    first = record(bakery, "first deploy", "deploy")
    assert len(first) >= 5, first
    cases = [*first, *recorded(bakery)]
    assert len(cases) >= 22, cases
    picked = chosen(cases, SLICE, whole=request.config.getoption("--matrix"))
    record_property("case", f"{len(picked)} of {len(cases)} cases")
    lines = []
    for case in picked:
        started = time.monotonic()
        run(bakery, case)
        line = f"{time.monotonic() - started:6.1f} s  {case}: ok"
        print(line)
        lines.append(line)
        record_property("case", line)
    if len(picked) == len(cases):
        write_report(TITLE, lines)


def recorded(bakery: Bakery) -> Iterator[Case]:
    """Give the cases of what happens to a server that is there."""
    replaced = record(bakery, "replacement", *REPLACE)
    assert len(replaced) >= 8, replaced
    back = record(bakery, "rollback", "rollback")
    assert len(back) >= 8, back
    bakery.extra = {"BAKERY_READY_SECONDS": "1"}
    undone = record(bakery, "undo", *REPLACE, fails=True)
    bakery.extra = {}
    bakery.ok("start")
    yield from replaced
    yield from (case for case in undone if case.step in {"undo", "resume"})
    yield from back


def run(bakery: Bakery, case: Case) -> None:
    if case.what == "first deploy":
        bakery.ok("destroy", "--with-data", "--yes")
        kill(bakery, case)
        bakery.ok("deploy")
        converged(bakery)
        return
    if not (bakery.folder / "deployment.json").exists():
        bakery.ok("deploy")
    if case.what == "rollback" and bakery.status()["previous"] is None:
        bakery.ok(*REPLACE)
    if case.what == "undo":
        bakery.extra = {"BAKERY_READY_SECONDS": "1"}
    with Probe(bakery) as probe:
        reached = kill(bakery, case)
        bakery.extra = {}
        assert reached, f"{case}: it ended before"
        bakery.ok("start")
    converged(bakery)
    assert probe.told, f"{case}: nobody was told of anything"
    assert probe.missing() == [], f"{case}: runs are gone"
