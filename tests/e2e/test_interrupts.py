"""Ctrl-C, SIGTERM and SIGKILL at every step of a bake and of a first deploy.

The steps are those that a recorded run shows. What a signal that can be caught leaves is nothing:
no machine, loop, mount or link; unless its generation counts already, then that goes on. What a
SIGKILL leaves, the next run clears away.
"""

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.bakery import Bakery, loops, traces, until
from tests.e2e.matrix import chosen, write_report

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SLICE = 14
SECTION = "Interrupted at every step"
_ENDED = re.compile(r"^\s*(.+?) … (done|failed) ")


@dataclass(frozen=True)
class Case:
    """A signal as a step of a verb begins."""

    verb: tuple[str, ...]
    step: int
    title: str
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.verb[0]}: {self.signal.name} at '{self.title}'"


@dataclass(frozen=True)
class Recorded:
    """The lines of a run as its steps ended, in order."""

    verb: tuple[str, ...]
    titles: list[str]

    def cases(self) -> Iterator[Case]:
        for number, title in enumerate(self.titles):
            for one in SIGNALS:
                yield Case(self.verb, number, title, one)


def record(bakery: Bakery, *verb: str) -> Recorded:
    titles = [m.group(1) for m in map(_ENDED.match, bakery.ok(*verb).err.splitlines()) if m]
    assert len(titles) >= 4, titles
    return Recorded(verb, titles)


def interrupt(bakery: Bakery, case: Case) -> int:
    """Run a verb, send the signal as the step begins, and return the exit code."""
    process = bakery.start(*case.verb)
    assert process.stderr is not None
    ended = 0
    while ended < case.step:
        line = process.stderr.readline()
        assert line, f"{case}: ended before that step"
        ended += bool(_ENDED.match(line))
    until(lambda: catches(process.pid), seconds=30, what=f"{case}: the verb begins")
    # A moment into the step; where in it does not matter to what must hold afterwards.
    time.sleep(0.15)
    if case.signal is signal.SIGKILL:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, case.signal)
    _out, err = process.communicate(timeout=180)
    assert "Traceback" not in err, f"{case}:\n{err}"
    return process.returncode


def catches(process: int) -> bool:
    """Return whether a process has a handler for SIGTERM, as a verb has from its first line on."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def nothing_runs(bakery: Bakery, network: str, folder: Path, case: Case) -> None:
    for owner in (network, str(folder)):
        left = [line for line in traces(owner) if "pool.xfs" not in line]
        assert left == [], f"{case}: left {left}"
    assert loops(bakery.state, disks_of(bakery, case.verb[0])) == [], case


def counts(bakery: Bakery) -> bool:
    """Return whether a generation is one that counts, from where there is no way back."""
    record = bakery.folder / "deployment.json"
    return record.exists() and bool(json.loads(record.read_text())["generation"])


def disks_of(bakery: Bakery, verb: str) -> str:
    """Return how the names of the disk files begin that a verb attaches."""
    return "bake.raw" if verb == "bake" else bakery.name


@pytest.mark.matrix
def test_an_interrupt_at_every_step(
    make_bakery: Callable[..., Bakery],
    image: str,
    state: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    bakery = make_bakery()
    bake = record(bakery, "bake", "--base", "debian-13", "--force")
    deploy = record(bakery, "deploy")
    network = bakery.facts["network"]["name"]
    assert traces(network), "the probe finds a running deployment"
    assert len(loops(state, bakery.name)) == 2, "the probe finds its root and its data disk"
    bakery.ok("destroy")
    cases = [*bake.cases(), *deploy.cases()]
    picked = chosen(cases, SLICE, whole=request.config.getoption("--matrix"))
    record_property("case", f"{len(picked)} of {len(cases)} cases")
    lines = []
    for case in picked:
        started = time.monotonic()
        code = interrupt(bakery, case)
        if code == 130 and not counts(bakery):
            where = state / "bake" if case.verb[0] == "bake" else bakery.folder
            owner = bake_network(state) if case.verb[0] == "bake" else network
            nothing_runs(bakery, owner, where.absolute(), case)
        else:
            # The run may have come to its end just before the signal, or so far that its
            # generation counts: it serves, and the next call lets the clients in.
            assert code in {0, 130, -case.signal}, f"{case}: exit code {code}"
            if case.verb[0] == "deploy":
                bakery.ok("deploy")
                bakery.ok("destroy")
                assert loops(state, bakery.name) == [], case
        line = f"{time.monotonic() - started:6.1f} s  {case}: ok"
        print(line)
        lines.append(line)
        record_property("case", line)
    bakery.ok("bake", "--base", "debian-13")
    bakery.ok("deploy")
    assert bakery.status()["state"] == "ready"
    if len(picked) == len(cases):
        write_report(SECTION, lines)


def bake_network(state: Path) -> str:
    folder = os.fsencode(state.absolute() / "bake")
    return f"bk{hashlib.sha256(folder).hexdigest()[:8]}"
