"""A run that is killed while a long operation goes on in Azure: the next one waits for it first."""

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from bakery import ssh
from bakery.deploy import storage
from tests.azure.journal import Entry
from tests.azure.matrix import LOGIN
from tests.azure.operations import Operation
from tests.azure.stage import Stage, forked

POLLS = "/operations/|/operationResults/"
SECONDS = 1.5
"""Longer than a run takes to come to what it would do first."""
# As a replacement begins them: method, path, and which of them it is.
BEGUN = {
    "the new machine is made": ("PUT", r"virtualMachines/[\w-]+$", 1),
    "the disk is detached": ("POST", "attachDetachDataDisks$", 1),
    "the snapshot is taken": ("PUT", "snapshots/", 1),
    "the disk is attached": ("POST", "attachDetachDataDisks$", 2),
    "the old machine is deallocated": ("POST", "deallocate$", 1),
    "the oldest machine is deleted": ("DELETE", r"virtualMachines/[\w-]+$", 1),
}


@pytest.fixture(scope="module")
def serving(deployed: Stage) -> Stage:
    """A deployment that serves, with a generation before."""
    deployed.deploy(replace=True)
    return deployed


def killed_while_it_goes_on(
    stage: Stage, begun: str, action: Callable[[], object], *, told: bool
) -> Operation:
    """Kill a run while an operation goes on, before or after its token was written down."""
    method, path, nth = BEGUN[begun]
    fake, known = stage.fake, set(stage.fake.operations)
    begin = {"method": method, "path": path, "nth": nth}
    slow = fake.fault("slow", seconds=SECONDS, **begin)
    store = stage.seen().store

    def kill_when_it_is_written_down() -> None:
        until(lambda: slow.done > 0, "it was begun")
        until(lambda: (store.read("operations.json") or "{}") != "{}", "its token was kept")
        fake.fault("kill", path=POLLS)

    with ThreadPoolExecutor() as pool:
        if told:
            watching = pool.submit(kill_when_it_is_written_down)
        else:
            fake.fault("kill", after=True, **begin)
        log = stage.folder / "killed.log"
        code = forked(action, log)
        if told:
            watching.result()
    fake.faults.clear()
    assert code == -signal.SIGKILL, log.read_text(encoding="utf-8")
    [found] = [
        one for key, one in fake.operations.items() if key not in known and not one.ended.is_set()
    ]
    return found


def until(so: Callable[[], bool], what: str) -> None:
    assert ssh.wait(so, seconds=20, pause=0.01), what


def changes(entry: Entry) -> bool:
    """Return whether a call changes something; to ask for keys or a token does not."""
    asks = entry.method in {"GET", "HEAD"} or "listKeys" in entry.path
    return not asks and re.search(LOGIN, entry.path) is None


def gone_on_with(stage: Stage, begun: str, *, told: bool) -> tuple[Operation, list[Entry]]:
    """Kill a replacement; return the operation, and what the next call asked to put all right."""
    case = f"{begun}, {'told' if told else 'untold'}"
    stage.log_run(f"before {case}")
    before = stage.runs()
    replace = partial(stage.deploy, replace=True)
    operation = killed_while_it_goes_on(stage, begun, replace, told=told)
    first = len(stage.fake.journal.entries)
    stage.colleague(f"after {case}").deploy()
    entries = stage.fake.journal.entries[first:]
    stage.check_tidy()
    assert stage.runs() == before
    return operation, entries


@pytest.mark.parametrize("begun", BEGUN)
def test_what_goes_on_is_waited_for_and_not_begun_again(serving: Stage, begun: str) -> None:
    operation, entries = gone_on_with(serving, begun, told=True)
    polls = [number for number, one in enumerate(entries) if operation.id in one.path]
    begins = [number for number, one in enumerate(entries) if changes(one)]
    assert polls, "it is asked how far it is"
    assert max(polls) < min(begins, default=len(entries)), "nothing is begun before it has ended"
    assert [str(one) for one in entries if one.status == 409] == [], "nor tried"
    path = operation.resource + ("/deallocate" if "deallocated" in begun else "")
    again = [
        str(one) for one in entries if one.method == operation.method and one.path.lower() == path
    ]
    assert again == []


@pytest.mark.parametrize("begun", BEGUN)
def test_what_nobody_was_told_of_is_gone_on_with_too(serving: Stage, begun: str) -> None:
    operation, _ = gone_on_with(serving, begun, told=False)
    assert operation.ended.is_set()
    assert operation.error is None


def test_a_first_deploy_waits_for_its_machine(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    storage(stage.settings)
    killed_while_it_goes_on(stage, "the new machine is made", stage.deploy, told=True)
    stage.colleague().deploy()
    made = [
        one.path.rpartition("/")[2]
        for one in stage.fake.journal.entries
        if one.method == "PUT" and re.search(r"virtualMachines/[\w-]+$", one.path)
    ]
    assert made == ["mlflow-1", "mlflow-2"], "each is made once, and the first one is removed"
    stage.check_tidy()
