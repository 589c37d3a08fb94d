"""A replacement killed at each single operation: the next call converges and nothing is lost.

The machines, the disk and the clients are a model in memory; the steps are the real ones.
"""

import contextlib
import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from bakery import checks, duty, replace, rollback, rotate
from bakery.errors import BakeryError, InputError
from bakery.state import Deployment, Generation

OLD, NEW = "r1", "r2"


class KilledError(BaseException):
    """The tool was killed; nothing that it does afterwards happens."""


@dataclass
class World:
    """What outlives the tool: the state, the machines, the data disk, what clients were told."""

    state: Deployment
    machines: dict[int, Generation] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    active: set[int] = field(default_factory=set)
    """Those whose server was started, if they have the disk."""
    admitting: set[int] = field(default_factory=set)
    """Those that let clients in; each remembers it on its own disk."""
    holder: int = 0
    """Who has the data disk."""
    leads_to: int = 0
    """Where the address leads."""
    disk: dict[str, Any] = field(default_factory=lambda: {"revision": OLD, "runs": []})
    snapshots: dict[int, dict[str, Any]] = field(default_factory=dict)
    undone: dict[str, Any] | None = None
    broken: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)
    """Those that do not stop when they are asked to."""
    told: list[str] = field(default_factory=list)
    backups: list[list[str]] = field(default_factory=list)

    def answers(self) -> bool:
        """Let the machine that the address leads to migrate, and say whether it serves."""
        number = self.leads_to
        if number not in self.running & self.active or self.holder != number:
            return False
        if self.disk["revision"] > self.machines[number].revision:
            return False
        self.disk["revision"] = self.machines[number].revision
        return number not in self.broken

    def client(self) -> bool:
        """Log a run as a client, which is told whether it is kept."""
        if not self.answers() or self.leads_to not in self.admitting:
            return False
        run = f"run {len(self.told)}"
        self.disk["runs"].append(run)
        self.told.append(run)
        return True

    def stop(self, number: int) -> None:
        self.running.discard(number)
        self.active.discard(number)
        if self.holder == number:
            self.holder = 0

    def reboot_of_the_host(self) -> None:
        for number in tuple(self.running):
            self.stop(number)
        self.leads_to = 0


class Target:
    """What replace.py needs of a target, on a world; it dies at the `fatal`-th operation."""

    def __init__(self, world: World, fatal: int = 0) -> None:
        self.world, self.fatal, self.done = world, fatal, 0
        self.deployment = world.state.model_copy(deep=True)
        self.settings = SimpleNamespace(ready_seconds=1)
        self.secrets = SimpleNamespace(previous_storage_key=None)
        self.log: list[str] = []

    def act(self, what: str = "") -> None:
        self.world.client()
        self.done += 1
        self.log.append(what)
        if self.fatal and self.done >= self.fatal:
            raise KilledError

    def save(self) -> None:
        self.act()
        self.world.state = self.deployment.model_copy(deep=True)

    def schema(self, image: Any) -> dict[str, Any]:
        return {"revision": image.revision}

    def create(self, generation: Generation) -> str:
        number, current = generation.number, self.deployment.generation
        self.act("create")
        told = "" if number in self.world.machines else "digest"
        self.world.machines[number] = generation
        self.act()
        self.world.running.add(number)
        if current is None or number != current.number:
            self.world.admitting.discard(number)
        return told

    def quiesce(self, generation: Generation) -> dict[str, int]:
        number = generation.number
        self.act("quiesce")
        self.world.admitting.discard(number)
        self.act()
        if number in self.world.stuck:
            self.world.stop(number)
            return {}
        self.world.active.discard(number)
        return {"runs": len(self.world.disk["runs"])}

    def detach(self, generation: Generation) -> None:
        self.act("detach")
        if self.world.holder == generation.number:
            assert generation.number not in self.world.active, "it is mounted"
            self.world.holder = 0

    def snapshot(self, generation: Generation) -> None:
        self.act("snapshot")
        assert self.world.holder == 0
        self.world.snapshots[generation.number] = copy.deepcopy(self.world.disk)

    def attach(self, generation: Generation) -> None:
        self.act("attach")
        assert generation.number in self.world.running
        assert self.world.holder in {0, generation.number}, "two machines on one data disk"
        self.world.holder = generation.number

    def move_address(self, generation: Generation) -> None:
        self.act("move")
        self.world.leads_to = generation.number

    def activate(self, generation: Generation) -> None:
        self.act("activate")
        self.world.active.add(generation.number)

    def admit(self, generation: Generation) -> None:
        self.act("admit")
        self.world.admitting.add(generation.number)

    def retire(self, generation: Generation) -> None:
        self.act("retire")
        self.world.stop(generation.number)

    def remove(self, generation: Generation) -> None:
        self.act("remove")
        self.world.stop(generation.number)
        self.world.machines.pop(generation.number, None)
        self.world.admitting.discard(generation.number)

    def changed_data(self, generation: Generation) -> bool:
        before = self.world.snapshots.get(generation.number)
        assert before is None or self.world.holder == 0
        return before is not None and before["revision"] != self.world.disk["revision"]

    def restore_snapshot(self, generation: Generation) -> None:
        self.act("restore")
        assert self.world.holder == 0
        self.world.undone = self.world.disk
        self.world.disk = copy.deepcopy(self.world.snapshots[generation.number])

    def snapshots(self) -> set[int]:
        return set(self.world.snapshots)

    def forget_snapshots(self, *, but: set[int]) -> None:
        self.act()
        for number in set(self.world.snapshots) - but:
            del self.world.snapshots[number]

    def fault(self, generation: Generation) -> str:
        raise AssertionError(generation)

    def running(self, generation: Generation) -> bool:
        return generation.number in self.world.running

    def generations(self) -> list[Generation]:
        return list(self.world.machines.values())

    def server(self, generation: Generation | None = None) -> Any:
        found = generation or self.deployment.generation
        return SimpleNamespace(checked=found, target=self, as_client=SimpleNamespace(target=self))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_ready(server: Any, *, deadline: float, **_: object) -> None:
        assert deadline in {1, 3, 240}
        world = server.target.world
        server.target.act()
        as_client = not hasattr(server, "checked")
        if not (world.client() if as_client else world.answers()):
            raise BakeryError("not ready")

    def ask(target: Target, generation: Generation, verb: str) -> Any:
        target.act(verb)
        assert target.running(generation)
        if verb == "close":
            target.world.admitting.discard(generation.number)
        return {"runs": len(target.world.disk["runs"])} if verb == "count" else None

    def keep(target: Target, generation: Generation, _: str) -> str:
        target.act()
        assert generation.number not in target.world.admitting, "what comes now would be lost"
        target.world.backups.append(list(target.world.disk["runs"]))
        return "its name"

    monkeypatch.setattr(replace, "keep", keep)
    monkeypatch.setattr(checks, "wait_ready", wait_ready)
    monkeypatch.setattr(duty, "ask", ask)
    monkeypatch.setattr(duty, "journal", lambda _, one: f"the story of {one.number}")
    monkeypatch.setattr(rotate, "apply", lambda target, *_, **__: target.act())


def world(*, revision: str = OLD, broken: bool = False, stuck: bool = False) -> tuple[World, Any]:
    first = Generation(number=1, image="old", revision=OLD)
    made = World(Deployment(name="x", generation=first, data_disk_served=True), {1: first})
    made.running, made.active, made.admitting = {1}, {1}, {1}
    made.holder = made.leads_to = 1
    made.broken, made.stuck = {2} if broken else set(), {1} if stuck else set()
    assert made.client()
    return made, SimpleNamespace(id="new", revision=revision, containers=[])


def attempt(target: Target, image: Any) -> None:
    replace.replace(target, image)  # type: ignore[arg-type]


def converged(there: World) -> None:
    """As `start` does: bring to its end what was cut off, then serve if nothing does."""
    there.client()
    target: Any = Target(there)
    replace.recover(target)
    current = there.state.generation
    assert current is not None
    if not replace.serves(target, current):
        replace.serve(target, current)
    assert there.client()
    assert there.leads_to == there.holder == current.number
    assert there.running == {current.number}
    assert there.state.pending is None
    assert set(there.snapshots) == ({2} if there.disk["revision"] == NEW else set())
    assert set(there.machines) == there.state.kept
    assert there.disk["runs"] == there.told, "a run that a client was told of is gone"


LAST = 40


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
