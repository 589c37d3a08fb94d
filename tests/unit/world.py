"""The model that replacements are tested on: machines, the disk and the clients, in memory."""

import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from bakery import checks, duty, replace, rotate
from bakery.errors import BakeryError
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


def put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the real steps act on the model."""

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
