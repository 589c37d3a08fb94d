"""A run that is killed at any call to Azure, and any call that goes wrong, of the real pages.

The calls are those that a recorded run made. Whatever happens, the same command again ends with
one machine that serves, nothing twice, nothing left over and no run lost.
"""

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bakery.errors import BakeryError
from tests.azure.stage import Stage, forked

pytestmark = pytest.mark.matrix

_SLICE = 4
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"action": "answer", "status": 429, "code": "TooManyRequests", "retry_after": 0},
    "500": {"action": "answer", "status": 500, "code": "InternalServerError"},
    "409": {"action": "answer", "status": 409, "code": "AnotherOperationInProgress"},
    "409 that stays": {
        "action": "answer", "status": 409, "code": "OperationNotAllowed", "times": 1,
    },
    "dropped": {"action": "drop"},
    "dropped after it was done": {"action": "drop", "after": True},
    "failed": {"action": "fail", "code": "InternalExecutionError"},
}  # fmt: skip


def points(calls: list[str], whole: bool) -> list[int]:
    """Return at which calls (from 1), all or some that are spread over the run."""
    numbers = list(range(1, len(calls) + 1))
    if whole:
        return numbers
    writes = [number for number in numbers if not calls[number - 1].startswith(("GET", "HEAD"))]
    pause = max(1, len(writes) // _SLICE)
    return writes[pause // 2 :: pause][:_SLICE]


def kill_at(stage: Stage, number: int, action: Callable[[], object], *, after: bool) -> int:
    log = stage.folder / "killed.log"
    stage.fake.fault("kill", path=f"^(?!.*({_LOGIN}))", nth=number, after=after)
    try:
        return forked(action, log)
    finally:
        stage.fake.faults.clear()


_LOGIN = "oauth2|openid|discovery"


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--matrix"))


def test_first_deploy_killed_at_a_call(
    make_stage: Callable[..., Stage], whole: bool, record_property: Callable[[str, str], None]
) -> None:
    recorded = make_stage()
    calls = recorded.calls(recorded.deploy)
    recorded.check_tidy()
    assert len(calls) > 60
    for turn, number in enumerate(points(calls, whole)):
        for after in (False, True) if whole else (bool(turn % 2),):
            case = f"first deploy killed {'after' if after else 'at'} {number}: {calls[number - 1]}"
            stage = make_stage()
            code = kill_at(stage, number, stage.deploy, after=after)
            assert code == -signal.SIGKILL, case
            # Whoever goes on need not have what the killed one had on its disk.
            other = stage.colleague()
            other.deploy()
            try:
                other.check_tidy()
            except AssertionError as error:
                raise AssertionError(case) from error
            record_property("case", case)


def test_replacement_killed_at_a_call(
    stage: Stage, whole: bool, record_property: Callable[[str, str], None]
) -> None:
    stage.deploy()
    stage.deploy(replace=True)
    replace = partial(stage.deploy, replace=True)
    calls = stage.calls(replace)
    assert len(calls) > 60
    for turn, number in enumerate(points(calls, whole)):
        for after in (False, True) if whole else (bool(turn % 2),):
            case = f"replacement killed {'after' if after else 'at'} {number}: {calls[number - 1]}"
            stage.log_run(f"run {number} {after}")
            before = stage.runs()
            kill_at(stage, number, replace, after=after)
            stage.colleague(f"c{number}{after}").deploy()
            try:
                stage.check_tidy()
                assert stage.runs() == before
            except AssertionError as error:
                raise AssertionError(case) from error
            record_property("case", case)


def test_each_call_of_a_replacement_goes_wrong(
    stage: Stage, whole: bool, record_property: Callable[[str, str], None]
) -> None:
    stage.deploy()
    stage.deploy(replace=True)
    replace = partial(stage.deploy, replace=True)
    calls = stage.calls(replace)
    kinds = list(FAULTS)
    for turn, number in enumerate(points(calls, whole)):
        for kind in kinds if whole else [kinds[turn % len(kinds)]]:
            case = f"{kind} at {number}: {calls[number - 1]}"
            stage.log_run(f"run {number} {kind}")
            before = stage.runs()
            message = go_wrong(stage, number, kind, replace)
            served = stage.seen().deployment.generation
            try:
                assert served is not None
                assert stage.answers() == 200, "somebody serves"
                stage.colleague(f"d{number}{kind}").deploy()
                stage.check_tidy()
                assert stage.runs() == before
            except AssertionError as error:
                raise AssertionError(f"{case}: {message}") from error
            record_property("case", f"{case}: {message or 'went on'}")


def go_wrong(stage: Stage, number: int, kind: str, action: Callable[[], object]) -> str:
    """Do it with a fault; return what was said, nothing where it was overcome."""
    stage.fake.fault(**FAULTS[kind], path=f"^(?!.*({_LOGIN}))", nth=number)
    said: BakeryError | None = None
    try:
        action()
    except BakeryError as error:
        said = error
    finally:
        stage.fake.faults.clear()
    if said is None:
        return ""
    assert said.hint, str(said)
    assert len(str(said).splitlines()) == 1
    return str(said)


def test_each_call_of_a_first_deploy_goes_wrong(
    make_stage: Callable[..., Stage], whole: bool, record_property: Callable[[str, str], None]
) -> None:
    recorded = make_stage()
    calls = recorded.calls(recorded.deploy)
    kinds = list(FAULTS)
    for turn, number in enumerate(points(calls, whole)):
        for kind in kinds if whole else [kinds[(turn + 3) % len(kinds)]]:
            case = f"first deploy, {kind} at {number}: {calls[number - 1]}"
            stage = make_stage()
            message = go_wrong(stage, number, kind, stage.deploy)
            stage.colleague().deploy()
            try:
                stage.check_tidy()
            except AssertionError as error:
                raise AssertionError(f"{case}: {message}") from error
            record_property("case", f"{case}: {message or 'went on'}")
