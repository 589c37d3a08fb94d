"""Rotations killed at each operation: the next call finishes them, and artifacts always work.

The machine and Azurite are a model in memory; what is done to them is the real thing.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from bakery import checks, credentials, environment, rotate, targets, users
from bakery.errors import BakeryError, InputError
from bakery.settings import Settings
from bakery.state import Deployment, Generation, Secrets
from bakery.targets.base import Answer

GENERATION = Generation(number=1, image="i")
SETTINGS = Settings(name="x")


class KilledError(BaseException):
    """The tool was killed; nothing that it does afterwards happens."""


def told(secrets: Secrets) -> dict[str, Any]:
    key = secrets.storage_key.get_secret_value()
    return {"hostname": "h", "users": secrets.logins("mlflow"), "storage": {"key": key}}


@dataclass
class World:
    """What outlives the tool."""

    secrets: Secrets
    state: Deployment
    disk: dict[str, Any]
    rendered: dict[str, Any] = field(default_factory=dict)
    mlflow_key: str = ""
    azurite: set[str] = field(default_factory=set)
    restarts: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.mlflow_key in self.azurite, "MLflow could not store artifacts"


class Target:
    """What rotate.py needs of a target; it dies at the `fatal`-th operation."""

    def __init__(self, world: World, fatal: int = 0) -> None:
        self.world, self.fatal, self.done = world, fatal, 0
        self.deployment = world.state.model_copy(deep=True)
        self.settings = SimpleNamespace(ready_seconds=1)

    @property
    def secrets(self) -> Secrets:
        return self.world.secrets

    def act(self) -> None:
        self.world.check()
        self.done += 1
        if self.fatal and self.done >= self.fatal:
            raise KilledError

    def save(self) -> None:
        self.act()
        self.world.state = self.deployment.model_copy(deep=True)

    def save_secrets(self, secrets: Secrets) -> None:
        self.act()
        self.world.secrets = secrets

    def renew_storage_key(self, given: SecretStr | None = None) -> None:
        self.save_secrets(credentials.with_storage_key(self.secrets, given or SecretStr("k2")))
        self.start_storage()

    def retire_storage_key(self) -> None:
        self.save_secrets(self.secrets.model_copy(update={"previous_storage_key": None}))
        self.start_storage()

    def start_storage(self) -> None:
        self.act()
        keys = (self.secrets.storage_key, self.secrets.previous_storage_key)
        self.world.azurite = {key.get_secret_value() for key in keys if key}

    def environment(self) -> dict[str, Any]:
        return {**told(self.secrets), "hostname": "new"}

    def server(self, _: Generation | None = None) -> str:
        return "server"

    def execute(
        self, _: Generation, words: list[str], *, stdin: str | None = None, timeout: float = 0
    ) -> Answer:
        """Be the machine."""
        del timeout
        return self.answer(words, stdin)

    def answer(self, words: list[str], stdin: str | None) -> Answer:
        self.act()
        world = self.world
        if words[0] == "cat":
            return Answer(0, json.dumps(world.disk), "")
        if words[:2] == ["sh", "-c"]:
            assert stdin is not None
            assert words[-1] == hashlib.sha256(stdin.encode()).hexdigest()
            found = json.loads(stdin)
            assert found["serial"] > world.disk["serial"], "a machine would take the older one"
            world.disk = found
        elif words[-1] == "--running":
            world.rendered = world.disk
        elif words[0] == "docker":
            world.restarts.append("mlflow")
            world.mlflow_key = world.rendered["storage"]["key"]
        elif words[:2] == ["systemctl", "restart"]:
            world.restarts.append("all")
            world.rendered = world.disk
            world.mlflow_key = world.rendered["storage"]["key"]
        return Answer(0, "", "")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "wait_ready", lambda *_, **__: 0.0)


@pytest.fixture
def world() -> World:
    secrets = Secrets(
        password=SecretStr("first"),
        password_hash=environment.hash_password("first"),
        storage_key=SecretStr("k1"),
    )
    disk = {**told(secrets), "serial": 5}
    state = Deployment(
        name="x", username="mlflow", environment_serial=5, generation=GENERATION,
        environment_digest=environment.digest(disk),
    )  # fmt: skip
    return World(secrets, state, disk, disk, "k1", {"k1"})


def apply(world: World, fatal: int = 0, **named: Any) -> Target:
    target = Target(world, fatal)
    rotate.apply(target, GENERATION, **named)  # type: ignore[arg-type]
    return target


def converged(world: World) -> None:
    world.check()
    assert world.disk == {**told(world.secrets), "serial": world.disk["serial"]}
    assert world.rendered == world.disk
    assert world.mlflow_key == world.secrets.storage_key.get_secret_value()
    assert world.azurite == {world.mlflow_key}
    assert world.secrets.previous_storage_key is None
    assert world.state.environment_digest == environment.digest(world.disk)


def rotate_both(world: World, fatal: int = 0) -> int:
    """Do what `./inv rotate` does, as far as it gets."""
    target = Target(world, fatal)
    changed = credentials.with_password(world.secrets)
    users._save_and_tell(target, changed, storage_key=True)  # type: ignore[arg-type]
    return target.done


def test_nothing_is_told_twice(world: World) -> None:
    assert apply(world).done == 2, "looked at the unit and at the disk"
    assert world.restarts == []


def test_a_password_needs_no_restart(world: World) -> None:
    world.secrets = credentials.with_password(world.secrets)
    apply(world)
    converged(world)
    assert world.disk["serial"] == world.state.environment_serial == 6
    assert world.restarts == []


def test_a_storage_key_restarts_mlflow_only(world: World) -> None:
    rotate_both(world)
    converged(world)
    assert (world.mlflow_key, world.restarts) == ("k2", ["mlflow"])


def test_a_rotation_killed_anywhere_is_finished_by_the_next_call(world: World) -> None:
    for fatal in range(1, 30):
        fresh = World(
            world.secrets, world.state.model_copy(deep=True), world.disk, world.disk, "k1", {"k1"}
        )
        with contextlib.suppress(KilledError):
            rotate_both(fresh, fatal)
            assert fatal > 10, "killed too late"
        Target(fresh).start_storage()  # as `start` does
        apply(fresh)
        converged(fresh)


def test_a_generation_that_is_brought_back_is_told_everything(world: World) -> None:
    apply(world, settings=True)
    assert world.rendered["hostname"] == "new"
    assert world.restarts == ["all"]


def test_a_machine_that_refuses_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(there: Target, _: Generation, words: list[str], **given: Any) -> Answer:
        said = there.answer(words, given.get("stdin"))
        return Answer(int(words[-1] == "--running"), said.out, "no such option")

    monkeypatch.setattr(Target, "execute", execute)
    world.secrets = credentials.with_password(world.secrets)
    with pytest.raises(BakeryError, match="prepare failed") as failed:
        apply(world)
    assert failed.value.tail == "no such option"
    assert "deploy --replace" in failed.value.hint


@pytest.fixture
def opened(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    @contextmanager
    def there(_: Settings) -> Iterator[Target]:
        yield Target(world)

    monkeypatch.setattr(targets, "opened", there)
    monkeypatch.setattr(targets, "seen", lambda _: Target(world))
    monkeypatch.setattr(users, "serving", lambda _: GENERATION)
    # What Traefik says of a login, from what it was given.
    monkeypatch.setattr(checks, "wait_login", lambda *_, **__: True)
    monkeypatch.setattr(
        checks, "wait_serial", lambda _, serial, **__: world.rendered["serial"] >= serial
    )
    return world


def test_users_are_added_listed_and_removed(opened: World) -> None:
    made = users.add(SETTINGS, "ann", None, show=True)
    users.add(SETTINGS, "bob", None, show=False)
    users.add(SETTINGS, "cy", SecretStr("given"), show=False)
    assert users.listed(SETTINGS) == ["mlflow", "ann", "bob", "cy"]
    assert set(opened.secrets.passwords) == {"bob"}, "only what nobody was shown"
    assert made not in str(opened.disk)
    assert set(opened.rendered["users"]) == {"mlflow", "ann", "bob", "cy"}
    users.add(SETTINGS, "bob", SecretStr("another"), show=False)
    assert opened.secrets.passwords == {}
    users.remove(SETTINGS, "bob")
    assert set(opened.rendered["users"]) == {"mlflow", "ann", "cy"}


def test_a_removal_that_traefik_does_not_read_is_no_success(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.add(SETTINGS, "bob", None, show=True)
    monkeypatch.setattr(checks, "wait_serial", lambda *_, **__: False)
    with pytest.raises(BakeryError, match="did not read the new logins"):
        users.remove(SETTINGS, "bob")
    assert "bob" not in opened.secrets.users


@pytest.mark.parametrize("name", ["mlflow", "nobody"])
def test_who_cannot_be_removed(opened: World, name: str) -> None:
    before = opened.secrets
    with pytest.raises(InputError):
        users.remove(SETTINGS, name)
    assert opened.secrets == before


def test_a_password_that_is_not_taken_over_is_an_error(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "wait_login", lambda *_, admitted, **__: admitted)
    with pytest.raises(BakeryError, match="mlflow was not refused"):
        users.change(SETTINGS, password=True, storage_key=False)
    users.change(SETTINGS, password=False, storage_key=True)
    converged(opened)
