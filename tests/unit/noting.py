"""A target that only takes notes of what it is asked to do."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from bakery.environment import digest
from bakery.errors import InputError
from bakery.manifest import Catalogue, Manifest
from bakery.settings import Settings
from bakery.state import Deployment, Generation
from bakery.targets.base import Answer

FOUNDATIONS = ["Network", "Artifact store"]


class FakeTarget:
    """Keeps a deployment's state as a target does, and notes what it is asked to do."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.deployment = Deployment(name="x")
        self.done: list[str] = []
        self.fails: dict[str, BaseException] = {}
        self.machines: list[Generation] = []
        self.up: set[int] = set()
        self.astray: set[int] = set()
        self.holder: int | None = None
        self.secrets = SimpleNamespace(previous_storage_key=None)
        self.destroy_failures: list[str] = []
        self.training = SimpleNamespace(image="", running=lambda: False)

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.fails:
            raise self.fails.pop(what)

    def save(self) -> None: ...

    def check(self) -> None:
        self._do("check")

    def give_up_data_disk(self) -> None:
        self._do("give_up_data_disk")

    def settle(self) -> None:
        self._do("settle")

    def foundations(self) -> Iterator[tuple[str, Callable[[], None]]]:
        for title in FOUNDATIONS:
            yield title, partial(self._do, title)

    def choose_image(self, image: str | None) -> Manifest:
        return self.catalogue.choose(image)

    def environment(self) -> dict[str, Any]:
        return {}

    def schema(self, image: Manifest) -> dict[str, Any]:
        assert image.id in {"old", "new"}
        return {"revision": "r", "ancestors": []}

    def create(self, generation: Generation) -> str:
        self._do(f"create {generation.number}")
        if generation not in self.machines:
            self.machines.append(generation)
        self.up.add(generation.number)
        return digest({})

    def quiesce(self, generation: Generation) -> dict[str, int]:
        self._do(f"quiesce {generation.number}")
        return {}

    def detach(self, generation: Generation) -> None:
        self._do(f"detach {generation.number}")
        if self.holder == generation.number:
            self.holder = None

    def snapshot(self, generation: Generation) -> None:
        self._do(f"snapshot {generation.number}")

    def attach(self, generation: Generation) -> None:
        self._do(f"attach {generation.number}")
        assert self.holder in {None, generation.number}, "two machines would have one data disk"
        self.holder = generation.number

    def move_address(self, generation: Generation) -> None:
        self._do(f"move_address {generation.number}")

    def activate(self, generation: Generation) -> None:
        self._do(f"activate {generation.number}")

    def admit(self, generation: Generation) -> None:
        self._do(f"admit {generation.number}")

    def retire(self, generation: Generation) -> None:
        self._do(f"retire {generation.number}")
        self._down(generation.number)

    def remove(self, generation: Generation) -> None:
        self.machines = [one for one in self.machines if one.number != generation.number]
        self._down(generation.number)

    def _down(self, number: int) -> None:
        self.up.discard(number)
        if self.holder == number:
            self.holder = None

    def changed_data(self, generation: Generation) -> bool:
        del generation
        return False

    def forget_snapshots(self, *, but: set[int]) -> None:
        assert but == set()

    def running(self, generation: Generation) -> bool:
        return generation.number in self.up

    def fault(self, generation: Generation) -> str:
        raise AssertionError(generation)

    def whole(self, generation: Generation) -> bool:
        return generation.number not in self.astray

    def generations(self) -> list[Generation]:
        return list(self.machines)

    def destroy(self, *, with_data: bool) -> list[str]:
        self._do(f"destroy {with_data}")
        self.machines, self.up, self.holder = [], set(), None
        return self.destroy_failures

    def execute(self, generation: Generation, words: list[str], **_: object) -> Answer:
        assert words[0] == "journalctl"
        return Answer(0, f"what machine {generation.number} said", "")

    def server(self, generation: Generation | None = None) -> Any:
        generation = generation or self.deployment.generation
        if generation is None:
            raise InputError("x is not deployed")
        return SimpleNamespace(number=generation.number, as_client=generation)

    @property
    def current_image(self) -> str:
        return self.deployment.generation.image if self.deployment.generation else ""

    @property
    def serving(self) -> int | None:
        """The one machine that runs and has the disk."""
        assert self.up in ({self.holder}, set())
        return self.holder
