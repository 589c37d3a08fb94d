"""A run that is killed at any call to Azure, and any call that goes wrong, of the real pages.

The calls are those that a recorded run made. Whatever happens, the same command again ends with
one machine that serves, nothing twice, nothing left over and no run lost.
"""

from collections.abc import Callable
from functools import partial

import pytest

from bakery.errors import BakeryError
from tests.azure.blob_door import Door
from tests.azure.matrix import (
    ANSWERS,
    KILLS,
    OF_BLOB,
    Case,
    Matrix,
    Replacing,
    cases,
    go_wrong,
    killed,
    write,
)
from tests.azure.stage import Stage, in_its_own_process

pytestmark = pytest.mark.matrix

VMS = "Microsoft.Compute/virtualMachines"


def test_first_deploy_killed_at_a_call(make_stage: Callable[..., Stage], matrix: Matrix) -> None:
    recorded = make_stage()
    calls = recorded.calls(recorded.deploy)
    recorded.check_tidy()
    assert len(calls) > 60

    def each(case: Case) -> str:
        stage = make_stage()
        killed(stage, case, stage.deploy, stage.fake.faults)
        other = stage.colleague()
        other.deploy()
        other.check_tidy()
        return "the next call makes it serve"

    matrix.run("Azure: a first deploy killed at every call", cases(calls, KILLS), each)


def test_replacement_killed_at_a_call(make_stage: Callable[..., Stage], matrix: Matrix) -> None:
    replacing = Replacing(make_stage)
    stage = replacing.stage()
    calls = stage.calls(partial(stage.deploy, replace=True))
    assert len(calls) > 60

    def act(stage: Stage, case: Case) -> str:
        killed(stage, case, partial(stage.deploy, replace=True), stage.fake.faults)
        return "the next call makes it serve, no run is lost"

    matrix.run(
        "Azure: a replacement killed at every call",
        cases(calls, KILLS),
        lambda case: replacing.case(case, act),
    )


def test_each_call_of_a_replacement_goes_wrong(
    make_stage: Callable[..., Stage], matrix: Matrix
) -> None:
    replacing = Replacing(make_stage)
    stage = replacing.stage()
    calls = stage.calls(partial(stage.deploy, replace=True))

    def act(stage: Stage, case: Case) -> str:
        before = stage.seen().deployment.generation
        said = go_wrong(case, partial(stage.deploy, replace=True), stage.fake.faults)
        after = stage.seen().deployment.generation
        assert stage.answers() == 200, f"somebody serves: {said}"
        if not said:
            return "overcome"
        return f"told, and the {'old' if after == before else 'new'} one serves: {said}"

    matrix.run(
        "Azure: every call of a replacement goes wrong",
        cases(calls, ANSWERS),
        lambda case: replacing.case(case, act),
    )


def test_each_call_of_a_first_deploy_goes_wrong(
    make_stage: Callable[..., Stage], matrix: Matrix
) -> None:
    recorded = make_stage()
    calls = recorded.calls(recorded.deploy)

    def each(case: Case) -> str:
        stage = make_stage()
        said = go_wrong(case, stage.deploy, stage.fake.faults)
        left = stage.named(VMS)
        try:
            assert not (said and left) or stage.seen().deployment.generation, "no half machine"
            stage.colleague().deploy()
            stage.check_tidy()
        except (AssertionError, BakeryError) as error:
            raise AssertionError(f"{error} ({said})") from error
        if not said:
            return "overcome"
        return f"told, and {'it serves' if left else 'no machine is left'}: {said}"

    matrix.run("Azure: every call of a first deploy goes wrong", cases(calls, ANSWERS), each)


def test_each_write_of_the_state_in_a_replacement_goes_wrong(
    make_stage: Callable[..., Stage], door: Door, matrix: Matrix
) -> None:
    # A run that has ended holds nothing, which is true of its process only.
    replacing = Replacing(make_stage, in_its_own_process)
    stage, first = replacing.stage(), len(door.writes)
    in_its_own_process(stage, partial(stage.deploy, replace=True))
    # How often the lease is renewed follows from how long all takes.
    writes = [one for one in door.writes[first:] if "renew" not in one]
    assert len(writes) > 20, writes

    def act(stage: Stage, case: Case) -> str:
        replace = partial(stage.deploy, replace=True)
        if case.kind in KILLS:
            killed(stage, case, replace, door.faults, write(writes, case))
            return "the next call makes it serve, no run is lost"
        before = stage.seen().deployment.generation
        run = partial(in_its_own_process, stage, replace)
        said = go_wrong(case, run, door.faults, write(writes, case))
        after = stage.seen().deployment.generation
        if not said:
            return "overcome"
        # While the state cannot be written nothing can be undone either.
        if "from then on" in case.kind and stage.seen().deployment.pending:
            return f"told, and the next call makes it serve: {said}"
        assert stage.answers() == 200, f"somebody serves: {said}"
        return f"told, and the {'old' if after == before else 'new'} one serves: {said}"

    matrix.run(
        "Azure: every write of the state in a replacement goes wrong",
        cases(writes, {**KILLS, **OF_BLOB}),
        lambda case: replacing.case(case, act),
    )
