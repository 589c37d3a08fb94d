"""A rollback, killed or not: what came since is kept, or given up on purpose."""

import contextlib
from typing import Any

import pytest

from bakery import replace, rollback
from bakery.errors import InputError
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


def test_rollback_keeps_what_came_since() -> None:
    there, image = world()
    attempt(Target(there), image)
    assert there.client()
    rollback.roll_back(Target(there))  # type: ignore[arg-type]
    assert there.running == set(there.machines) == {1}
    assert there.disk["runs"] == there.told
    assert [one.outcome for one in there.state.history] == ["rolled back", "serving"]
    with pytest.raises(InputError, match="no generation to go back to"):
        rollback.roll_back(Target(there))  # type: ignore[arg-type]


def newer_schema() -> tuple[World, list[str]]:
    """A world whose second generation has migrated, and what there was before."""
    there, image = world(revision=NEW)
    attempt(Target(there), image)
    assert there.snapshots.keys() == {2}, "for a rollback"
    before = list(there.snapshots[2]["runs"])
    assert there.client()
    return there, before


def test_rollback_to_another_schema_is_refused_and_touches_nothing() -> None:
    there, before = newer_schema()
    state = there.state.model_copy(deep=True)
    # One comes with each operation of the tool.
    with pytest.raises(InputError, match=r"no way back, and \d runs are newer") as refused:
        rollback.roll_back(Target(there))  # type: ignore[arg-type]
    assert f"and {len(there.told) - len(before)} runs" in str(refused.value)
    assert "--discard-newer" in refused.value.hint
    assert there.state == state
    assert there.running == {2}
    there.reboot_of_the_host()
    with pytest.raises(InputError, match="is stopped"):
        rollback.roll_back(Target(there), discard_newer=True)  # type: ignore[arg-type]
    there.running.add(2)
    there.snapshots.clear()
    with pytest.raises(InputError, match="of before generation 2 are not kept"):
        rollback.roll_back(Target(there), discard_newer=True)  # type: ignore[arg-type]


def test_what_is_newer_is_given_up_only_when_a_backup_has_it() -> None:
    there, before = newer_schema()
    rollback.roll_back(Target(there), discard_newer=True)  # type: ignore[arg-type]
    assert there.disk["revision"] == OLD
    assert there.disk["runs"][: len(before)] == before
    newer = there.told[len(before) : -len(there.disk["runs"]) + len(before) or None]
    assert newer
    assert set(newer) <= set(there.backups[0])
    assert there.snapshots == {}


def test_a_rollback_that_discards_killed_anywhere_serves_one_or_the_other() -> None:
    for fatal in range(1, LAST):
        there, before = newer_schema()
        with contextlib.suppress(KilledError):
            rollback.roll_back(Target(there, fatal), discard_newer=True)  # type: ignore[arg-type]
        there.client()
        target: Any = Target(there)
        replace.recover(target)
        current = there.state.generation
        assert current is not None
        assert there.client()
        assert there.running == {current.number}
        if current.number == 2:
            assert there.disk["runs"] == there.told
        else:
            assert there.disk["revision"] == OLD
            assert there.disk["runs"][: len(before)] == before
            assert set(there.told) == {*there.backups[0], *there.disk["runs"]}


@pytest.mark.parametrize("reboot", [False, True])
def test_a_rollback_killed_anywhere_converges(reboot: bool) -> None:
    for fatal in range(1, LAST):
        there, image = world()
        attempt(Target(there), image)
        # The old one was killed and never told to let nobody in.
        there.admitting.add(1)
        with contextlib.suppress(KilledError):
            rollback.roll_back(Target(there, fatal))  # type: ignore[arg-type]
        if reboot:
            there.reboot_of_the_host()
        converged(there)
