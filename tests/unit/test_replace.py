"""A replacement killed at each single operation: the next call converges and nothing is lost.

The machines, the disk and the clients are a model in memory; the steps are the real ones.
"""

import contextlib
import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from bakery import checks, replace, rotate
from bakery.errors import BakeryError, InputError
from bakery.state import Deployment, Generation

OLD, NEW = "r1", "r2"


class KilledError(BaseException):
    """The tool was killed; nothing that it does afterwards happens."""


@dataclass
class World:
    """What outlives the tool: the state, the machines, the data disk, what clients were told."""

    state: Deployment
    machines: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    disk: dict[str, Any] = field(default_factory=lambda: {"revision": OLD, "runs": []})
    snapshot: dict[str, Any] | None = None
    undone: dict[str, Any] | None = None
    broken: set[int] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    def serve(self, generation: Generation) -> bool:
        """Let a running machine migrate, and serve a client if it can."""
        if generation.number not in self.running or self.disk["revision"] > generation.revision:
            return False
        self.disk["revision"] = generation.revision
        if generation.number in self.broken:
            return False
        run = f"run {len(self.told)}"
        self.disk["runs"].append(run)
        self.told.append(run)
        return True


class Target:
    """What replace.py needs of a target, on a world; it dies at the `fatal`-th operation."""

    def __init__(self, world: World, fatal: int = 0) -> None:
        self.world, self.fatal, self.done = world, fatal, 0
        self.deployment = world.state.model_copy(deep=True)
        self.folder = SimpleNamespace(save=self.save)
        self.data = SimpleNamespace(
            take_snapshot=self.take_snapshot, changed=self.changed, set_back=self.set_back,
            undone=SimpleNamespace(unlink=lambda **_: self.act()),
        )  # fmt: skip
        self.settings = SimpleNamespace(ready_seconds=1)
        self.secrets = SimpleNamespace(previous_storage_key=None)

    def act(self) -> None:
        self.done += 1
        if self.fatal and self.done >= self.fatal:
            raise KilledError

    def save(self, deployment: Deployment) -> None:
        self.act()
        self.world.state = deployment.model_copy(deep=True)

    def next_generation(self, image: Any) -> Generation:
        number = max(self.deployment.last_number, self.deployment.generation.number) + 1  # type: ignore[union-attr]
        return Generation(number=number, image=image.id, revision=image.revision)

    def create_machine(self, generation: Generation) -> str:
        self.act()
        self.world.machines.add(generation.number)
        return "digest"

    def boot(self, generation: Generation) -> None:
        self.act()
        assert self.world.running <= {generation.number}, "two machines on one data disk"
        self.world.running.add(generation.number)
        self.world.serve(generation)
        self.act()

    def stop(self, generation: Generation) -> None:
        self.act()
        self.world.running.discard(generation.number)

    def running(self, generation: Generation | None = None) -> bool:
        generation = generation or self.deployment.generation
        return generation is not None and generation.number in self.world.running

    def take_snapshot(self) -> None:
        self.act()
        assert not self.world.running
        self.world.snapshot = copy.deepcopy(self.world.disk)

    def changed(self) -> bool:
        before = self.world.snapshot
        assert before is None or not self.world.running
        return before is not None and before["revision"] != self.world.disk["revision"]

    def set_back(self) -> bool:
        if not self.changed():
            return False
        self.act()
        self.world.undone = self.world.disk
        assert self.world.snapshot is not None
        self.world.disk, self.world.snapshot = self.world.snapshot, None
        return True

    def tidy(self) -> None:
        for number in sorted(self.world.machines - self.deployment.kept):
            self.act()
            assert number not in self.world.running
            self.world.machines.discard(number)
        if self.deployment.pending is None:
            self.act()
            self.world.snapshot = None

    def server(self, generation: Generation | None = None) -> Any:
        return generation or self.deployment.generation

    def spec(self, generation: Generation) -> Any:
        exists = generation.number in self.world.machines
        return SimpleNamespace(console="", disk=SimpleNamespace(exists=lambda: exists))

    def journal(self, generation: Generation) -> str:
        return f"the story of {generation.number}"


@pytest.fixture(autouse=True)
def readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[Target] = []
    made = Target.__init__

    def remember(self: Target, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        current[:] = [self]

    def wait_ready(generation: Generation, *, deadline: float) -> None:
        target = current[0]
        target.act()
        if not target.world.serve(generation):
            raise BakeryError("not ready")

    monkeypatch.setattr(Target, "__init__", remember)
    monkeypatch.setattr(checks, "wait_ready", wait_ready)
    monkeypatch.setattr(rotate, "apply", lambda target, *_, **__: target.act())


def world(*, revision: str = OLD, broken: bool = False) -> tuple[World, Any]:
    first = Generation(number=1, image="old", revision=OLD)
    made = World(Deployment(name="x", generation=first), {1}, {1})
    made.serve(first)
    if broken:
        made.broken = {2}
    return made, SimpleNamespace(id="new", revision=revision)


def attempt(target: Target, image: Any) -> None:
    replace.replace(target, image)  # type: ignore[arg-type]


def operations(*, revision: str, broken: bool) -> int:
    there, image = world(revision=revision, broken=broken)
    target = Target(there)
    try:
        attempt(target, image)
    except BakeryError:
        assert broken
    return target.done


CASES = [
    (revision, broken, fatal, reboot)
    for revision in (OLD, NEW)
    for broken in (False, True)
    for fatal in range(1, 30)
    for reboot in (False, True)
]


@pytest.mark.parametrize(("revision", "broken", "fatal", "reboot"), CASES)
def test_killed_anywhere_the_next_call_converges(
    revision: str, broken: bool, fatal: int, reboot: bool
) -> None:
    there, image = world(revision=revision, broken=broken)
    with contextlib.suppress(KilledError, BakeryError):
        attempt(Target(there, fatal), image)
    if reboot:
        there.running.clear()
    # In between, whatever runs serves.
    for generation in (
        there.state.generation,
        there.state.pending and there.state.pending.generation,
    ):
        if generation:
            there.serve(generation)

    target = Target(there)
    replace.recover(target)  # type: ignore[arg-type]
    current = there.state.generation
    assert current is not None
    if not there.running:  # as `start` does
        target.boot(current)
    assert there.running == {current.number}
    assert there.state.pending is None
    assert there.snapshot is None
    assert there.machines == there.state.kept
    assert there.serve(current)
    assert there.disk["runs"] == there.told, "a run that a client was told of is gone"
    if broken:
        assert current.number == 1


def test_the_matrix_reaches_the_end() -> None:
    for revision in (OLD, NEW):
        for broken in (False, True):
            assert 8 < operations(revision=revision, broken=broken) < 29


def test_the_old_generation_serves_again_and_the_number_is_gone() -> None:
    there, image = world(revision=NEW, broken=True)
    with pytest.raises(BakeryError, match="not ready") as failed:
        attempt(Target(there), image)
    assert failed.value.tail == "the story of 2"
    assert there.undone is not None
    assert [event.outcome for event in there.state.history] == ["undone: not ready"]
    attempt(Target(there), image)
    assert there.state.generation is not None
    assert there.state.generation.number == 3
    assert there.state.previous is not None
    assert there.state.previous.number == 1
    assert there.machines == {1, 3}


def test_rollback_keeps_what_came_since() -> None:
    there, image = world()
    attempt(Target(there), image)
    there.serve(there.state.generation)  # type: ignore[arg-type]
    replace.roll_back(Target(there))  # type: ignore[arg-type]
    assert there.running == there.machines == {1}
    assert there.disk["runs"] == there.told
    assert [one.outcome for one in there.state.history] == ["rolled back", "serving"]
    with pytest.raises(InputError, match="no generation to go back to"):
        replace.roll_back(Target(there))  # type: ignore[arg-type]


def test_rollback_to_another_schema_is_refused_and_touches_nothing() -> None:
    there, image = world(revision=NEW)
    attempt(Target(there), image)
    before = there.state.model_copy(deep=True)
    with pytest.raises(InputError, match="no way back"):
        replace.roll_back(Target(there))  # type: ignore[arg-type]
    assert there.state == before
    assert there.running == {2}


def test_a_rollback_killed_anywhere_converges() -> None:
    for fatal in range(1, 25):
        there, image = world()
        attempt(Target(there), image)
        with contextlib.suppress(KilledError):
            replace.roll_back(Target(there, fatal))  # type: ignore[arg-type]
        target = Target(there)
        replace.recover(target)  # type: ignore[arg-type]
        current = there.state.generation
        assert current is not None
        if not there.running:
            target.boot(current)
        assert there.running == {current.number}
        assert there.machines == there.state.kept
        assert there.disk["runs"] == there.told


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
