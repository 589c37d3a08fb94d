"""A replacement killed at each single operation: the next call converges and nothing is lost.

The machines, the disk and the clients are a model in memory; the steps are the real ones.
"""

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from bakery import duty, replace, rollback
from bakery.errors import BakeryError, InputError
from bakery.state import Deployment, Generation
from tests.unit.world import (
    LAST,
    NEW,
    OLD,
    KilledError,
    Target,
    World,
    attempt,
    converged,
    world,
)

pytestmark = pytest.mark.usefixtures("modelled")


@pytest.mark.parametrize("revision", [OLD, NEW])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("reboot", [False, True])
def test_killed_anywhere_the_next_call_converges(
    revision: str, broken: bool, stuck: bool, reboot: bool
) -> None:
    for fatal in range(1, LAST):
        there, image = world(revision=revision, broken=broken, stuck=stuck)
        with contextlib.suppress(KilledError, BakeryError):
            attempt(Target(there, fatal), image)
        if reboot:
            there.reboot_of_the_host()
        converged(there)
        if broken:
            assert there.state.generation == there.machines[1]


def test_a_recovery_that_is_killed_too_converges() -> None:
    for fatal in range(1, LAST):
        for second in range(1 + fatal % 3, 20, 3):
            there, image = world(revision=NEW, broken=True)
            with contextlib.suppress(KilledError, BakeryError):
                attempt(Target(there, fatal), image)
            with contextlib.suppress(KilledError):
                replace.recover(Target(there, second))  # type: ignore[arg-type]
            converged(there)
            assert there.state.generation == there.machines[1]


def test_a_first_deploy_killed_anywhere_is_undone_or_serves() -> None:
    for fatal in range(1, LAST):
        there = World(Deployment(name="x"))
        image = SimpleNamespace(id="i", revision=OLD, containers=[])
        with contextlib.suppress(KilledError):
            attempt(Target(there, fatal), image)
        target: Any = Target(there)
        replace.recover(target)
        if there.state.generation is None:
            assert there.machines == {}
            assert there.told == []
            attempt(Target(there), image)
        converged(there)


def test_one_that_breaks_once_it_counts_can_be_rolled_back() -> None:
    there, image = world()
    killed: Any = Target(there)

    def admit(_: Generation) -> None:
        raise KilledError

    killed.admit = admit
    with contextlib.suppress(KilledError):
        attempt(killed, image)
    assert there.state.pending is not None
    assert there.state.pending.step == "admit"
    there.broken.add(2)
    with pytest.raises(BakeryError, match="not ready"):
        replace.recover(Target(there))  # type: ignore[arg-type]
    rollback.roll_back(Target(there))  # type: ignore[arg-type]
    converged(there)
    assert there.leads_to == 1


@pytest.mark.parametrize("failing", ["save", "admit"])
@pytest.mark.parametrize("times", [1, 3])
def test_what_has_no_way_back_is_tried_again(
    failing: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    there, image = world()
    target: Any = Target(there)
    does, left = getattr(target, failing), [times]

    def fails(*given: Any) -> None:
        pending = target.deployment.pending
        if pending and pending.step == "admit" and left[0]:
            left[0] -= 1
            raise BakeryError("Azure does not allow this now")
        does(*given)

    setattr(target, failing, fails)
    if times == 1:
        attempt(target, image)
    else:
        with pytest.raises(BakeryError, match="does not allow"):
            attempt(target, image)
    assert left == [0]
    converged(there)


def test_a_start_that_is_killed_is_begun_anew() -> None:
    for fatal in range(1, 12):
        there, _ = world()
        there.reboot_of_the_host()
        with contextlib.suppress(KilledError):
            replace.serve(Target(there, fatal), there.machines[1])  # type: ignore[arg-type]
        converged(there)


def test_the_matrix_reaches_the_end() -> None:
    for revision in (OLD, NEW):
        for broken in (False, True):
            there, image = world(revision=revision, broken=broken)
            target = Target(there)
            with contextlib.suppress(BakeryError):
                attempt(target, image)
            assert 20 < target.done < LAST - 1


def test_the_steps_are_in_the_one_order() -> None:
    there, image = world(revision=NEW)
    target = Target(there)
    attempt(target, image)
    assert [what for what in target.log if what] == [
        "create", "wait", "quiesce", "detach", "snapshot", "attach", "move", "activate", "count",
        "admit", "retire",
    ]  # fmt: skip
    assert there.disk["revision"] == NEW


def test_the_old_generation_serves_again_and_the_number_is_gone() -> None:
    there, image = world(revision=NEW, broken=True)
    with pytest.raises(BakeryError, match="not ready") as failed:
        attempt(Target(there), image)
    assert failed.value.tail == "the story of 2"
    assert there.undone is not None
    assert there.undone["revision"] == NEW
    assert [event.outcome for event in there.state.history] == ["undone: not ready"]
    attempt(Target(there), image)
    assert there.state.generation is not None
    assert there.state.generation.number == 3
    assert there.state.previous is not None
    assert there.state.previous.number == 1
    assert set(there.machines) == {1, 3}


def test_rows_that_are_missing_are_a_reason_to_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    there, image = world()
    monkeypatch.setattr(duty, "ask", lambda *_: {"runs": 0})
    with pytest.raises(BakeryError, match=r"has other rows: runs: \d before, 0 now"):
        attempt(Target(there), image)
    assert there.client()
    assert there.leads_to == 1


def test_on_an_empty_disk_nothing_is_missed() -> None:
    there, image = world()
    there.state.data_disk_served = False
    target = Target(there)
    there.disk["runs"].append("lost with its disk")
    attempt(target, image)
    assert "count" not in target.log
    assert "snapshot" not in target.log
    assert there.leads_to == 2


def test_a_machine_that_cannot_import_never_stops_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, image = world()
    target, before = Target(there), len(there.told)

    def ask(*_: object) -> None:
        raise BakeryError("MLflow does not start")

    monkeypatch.setattr(duty, "ask", ask)
    with pytest.raises(BakeryError, match="does not start"):
        attempt(target, image)
    assert "quiesce" not in target.log
    # A client comes at each operation; the last two are those of the check itself.
    assert len(there.told) - before >= target.done


def test_no_two_machines_at_one_time_share_an_address() -> None:
    there, image = world()
    there.state.last_number = 8
    target: Any = Target(there)
    assert replace._next(target, image).number == 10


@pytest.mark.parametrize(
    ("mysql", "revision", "ancestors", "said"),
    [
        ("8.4.9", "r1", [], "older MySQL"),
        ("9.7.4", "r0", [], "does not know the schema"),
        ("9.7.4", "r2", ["r1"], ""),
        ("9.10.0", "r1", [], ""),
    ],
)
def test_an_image_that_cannot_read_the_data_is_refused(
    mysql: str, revision: str, ancestors: list[str], said: str
) -> None:
    there, _ = world()
    there.state.generation = Generation(number=1, image="old", revision=OLD, mysql="9.7.4")
    target: Any = Target(there)
    target.schema = lambda _: {"revision": revision, "ancestors": ancestors}
    versions = {"mysql": mysql, "mlflow": "3"}
    image: Any = SimpleNamespace(
        id="new", containers=[SimpleNamespace(name=k, version=v) for k, v in versions.items()]
    )
    if said:
        with pytest.raises(InputError, match=said):
            replace.check_image(target, image)
    else:
        replace.check_image(target, image)
