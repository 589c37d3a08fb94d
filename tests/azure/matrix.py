"""What the fault matrices of Azure share: cases, what came of each, a summary for the docs."""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from bakery.errors import BakeryError
from tests.azure.faults import Fault, Faults
from tests.azure.stage import Stage, forked
from tests.e2e.matrix import chosen, write_report

SLICE = 14
"""The first case, the last, and twelve that the commit chooses."""
LOGIN = "oauth2|openid|discovery"
ANY = f"^(?!.*({LOGIN}))"
"""Every call but those to log in."""
KILLS = {"killed before it": False, "killed after it": True}
ANSWERS: dict[str, dict[str, Any]] = {
    "429": {"action": "answer", "status": 429, "code": "TooManyRequests", "retry_after": 0},
    "500": {"action": "answer", "status": 500, "code": "InternalServerError"},
    "409 that passes": {"action": "answer", "status": 409, "code": "AnotherOperationInProgress"},
    "dropped": {"action": "drop"},
    "409 that stays": {"action": "answer", "status": 409, "code": "OperationNotAllowed"},
    "dropped after it was done": {"action": "drop", "after": True},
    "the operation fails": {"action": "fail", "code": "InternalExecutionError"},
}
OF_BLOB: dict[str, dict[str, Any]] = {
    "500 once": {"action": "answer", "status": 500, "code": "InternalError"},
    "500 from then on": {"action": "answer", "status": 500, "code": "InternalError", "times": 999},
    "409": {"action": "answer", "status": 409, "code": "PendingCopyOperation"},
    "412": {"action": "answer", "status": 412, "code": "ConditionNotMet"},
    "no answer": {"action": "drop"},
    "no answer after it was done": {"action": "drop", "after": True},
}
FAULTS = ANSWERS | OF_BLOB
# What has no effect is the same killed or dropped after it and before the next, and never a
# long operation.
_OF_WRITES = {
    "killed after it", "409 that stays", "dropped after it was done", "the operation fails",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Something that goes wrong at one call of a recorded run."""

    kind: str
    number: int
    call: str

    def __str__(self) -> str:
        return f"{self.kind}, call {self.number}: {self.call}"


def cases(calls: list[str], kinds: Iterable[str]) -> list[Case]:
    """Return every case of a recorded run's calls; its words are the same for each run."""
    return [
        Case(kind, number, _plain(call))
        for number, call in enumerate(calls, 1)
        for kind in kinds
        if kind not in _OF_WRITES or not call.startswith(("GET", "HEAD"))
    ]


def _plain(call: str) -> str:
    """Return a call without the ids that are different in each run."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "…", call)
    text = re.sub(r"bakery-[0-9a-f]{8}", "bakery-…", text)
    text = re.sub(r"storageAccounts/\w+", "storageAccounts/…", text)
    return re.sub(r"/subscriptions/…/(resourceGroups/[^/]+/providers/)?", "", text)


class Matrix:
    """One matrix: which of its cases run, and what came of them."""

    def __init__(
        self, request: pytest.FixtureRequest, record: Callable[[str, object], None]
    ) -> None:
        self._whole = bool(request.config.getoption("--matrix"))
        self._record = record

    def run(self, section: str, all_of_them: list[Case], each: Callable[[Case], str]) -> None:
        """Run the cases; `each` returns what came of one, in a few words.

        One that fails does not keep the others from being tried. A few may not be reached.
        """
        picked = chosen(all_of_them, SLICE, whole=self._whole)
        self._record("case", f"{len(picked)} of {len(all_of_them)} cases")
        failures: list[str] = []
        missed = 0
        outcomes: Counter[tuple[str, str]] = Counter()
        began = time.monotonic()
        for case in picked:
            started = time.monotonic()
            try:
                outcome = each(case)
            except NotReachedError:
                # How often is polled, and how many tokens are kept, depends on how long all takes.
                outcome = "not reached: this run made fewer calls"
                missed += 1
            except Exception as error:  # noqa: BLE001 (told at the end)
                outcome = f"FAILED: {error!r}"
                failures.append(f"{case}: {error!r}")
            outcomes[case.kind, outcome.partition(": ")[0]] += 1
            line = f"{time.monotonic() - started:6.1f} s  {case}: {outcome}"
            print(line, flush=True)
            if not self._whole or outcome.startswith("FAILED"):
                self._record("case", line)
        assert not failures, "\n".join([f"{len(failures)} of {len(picked)} failed:", *failures])
        assert missed <= max(2, len(picked) // 20), "most cases are reached"
        if len(picked) == len(all_of_them):
            seconds = time.monotonic() - began
            lines = [f"{count:5}  {kind}: {said}" for (kind, said), count in outcomes.items()]
            write_report(section, [*lines, f"{len(picked):5}  cases in {seconds:.0f} s"])


class NotReachedError(AssertionError):
    """The run did not come to the case's call."""


@dataclass(frozen=True)
class Where:
    """Which call of a run it is: the `nth` of those whose path matches."""

    path: str
    nth: int


def write(writes: list[str], case: Case) -> Where:
    """Return which write a case is at, counted among those of the same thing."""
    nth = writes[: case.number].count(writes[case.number - 1])
    return Where(f"^{re.escape(writes[case.number - 1].partition(' ')[2])}$", nth)


def killed(
    stage: Stage,
    case: Case,
    action: Callable[[], object],
    faults: Faults,
    where: Where | None = None,
) -> None:
    """Run an action in a process that dies at the case's call."""
    log, where = stage.folder / "killed.log", where or Where(ANY, case.number)
    fault = Fault("kill", path=where.path, nth=where.nth, after=KILLS[case.kind])
    faults.add(fault)
    try:
        code = forked(action, log)
    finally:
        faults.clear()
    if code == 0 and not fault.done:
        raise NotReachedError(str(case))
    assert code == -signal.SIGKILL, log.read_text(encoding="utf-8")


def go_wrong(
    case: Case, action: Callable[[], object], faults: Faults, where: Where | None = None
) -> str:
    """Do it with a fault; return what was said, nothing where it was overcome."""
    where = where or Where(ANY, case.number)
    fault = faults.add(Fault(**FAULTS[case.kind], path=where.path, nth=where.nth))
    said: BakeryError | None = None
    try:
        action()
    except BakeryError as error:
        said = error
    finally:
        faults.clear()
    if not fault.done:
        raise NotReachedError(str(case))
    if said is None:
        return ""
    assert said.hint, str(said)
    assert len(str(said).splitlines()) == 1
    return str(said)


class Replacing:
    """A deployment that is replaced again and again; made anew where a case has spoilt it."""

    def __init__(
        self,
        make_stage: Callable[..., Stage],
        run: Callable[[Stage, Callable[[], object]], object] = lambda _, action: action(),
    ) -> None:
        """Make stages; `run` is how their commands are run."""
        self._make, self._run = make_stage, run
        self._stage: Stage | None = None
        self._turn = 0

    def stage(self) -> Stage:
        """Return a deployment with a generation before, as the last good case left it."""
        if self._stage is None:
            self._stage = self._make()
            self._stage.deploy()
            self._run(self._stage, partial(self._stage.deploy, replace=True))
        return self._stage

    def case(self, case: Case, act: Callable[[Stage, Case], str]) -> str:
        """Let something befall a replacement; then the next call puts all right."""
        stage, self._turn = self.stage(), self._turn + 1
        self._stage = None
        stage.log_run(f"run {self._turn}")
        before = stage.runs()
        said = act(stage, case)
        # Whoever goes on need not have what the first one had on its disk.
        self._run(stage, stage.colleague(f"colleague-{self._turn}").deploy)
        try:
            stage.check_tidy()
            assert stage.runs() == before
        except AssertionError as error:
            raise AssertionError(f"{error} ({said})") from error
        self._stage = stage
        return said
