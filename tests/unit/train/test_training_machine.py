"""The training machine: made once, of an image, and known to every verb."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bakery import machine, network, pool, ssh, training
from bakery.drivers.nspawn import Nspawn
from bakery.errors import InputError
from bakery.manifest import Catalogue
from bakery.network import Network
from bakery.settings import Settings, load
from bakery.state import Deployment, DeploymentFolder, Generation
from bakery.targets import local
from bakery.targets.local import LocalTarget
from bakery.targets.local_training import LocalTraining
from tests.unit.samples import manifest


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The machines that run, in the place of real ones."""
    running: set[str] = set()

    @contextmanager
    def opened(state: Path) -> Iterator[Path]:
        yield state / "pool"

    monkeypatch.setattr(pool, "opened", opened)
    monkeypatch.setattr(pool, "check_space", lambda *_, **__: None)
    monkeypatch.setattr(network, "bring_up", lambda _: None)
    monkeypatch.setattr(machine, "_name_servers", list)
    monkeypatch.setattr(machine, "boot", lambda _, spec, *__, **___: running.add(spec.name))
    monkeypatch.setattr(ssh, "wait", lambda *_, **__: True)
    monkeypatch.setattr(LocalTraining, "ready", lambda _: True)
    monkeypatch.setattr(Nspawn, "check", lambda _: None)
    monkeypatch.setattr(Nspawn, "running", lambda _, spec: spec.name in running)
    monkeypatch.setattr(Nspawn, "stop", lambda _, spec, **__: running.discard(spec.name))
    monkeypatch.setattr("bakery.hosts.claim", lambda *_: None)
    return running


@pytest.fixture
def settings(state: Path, up: set[str]) -> Settings:
    """Settings of a deployment that is there, and two images."""
    found = load()
    net = Network("bk1", "10.88.0.0/28")
    generation = Generation(number=1, image="one")
    one = Deployment(id="abcdef", name=found.name, network=net, generation=generation)
    DeploymentFolder(state, found.name).save(one.model_copy(update={"hostname": "m.example.org"}))
    catalogue = Catalogue(state, state / "pool")
    for number, image in enumerate(("one", "two")):
        catalogue.add(manifest(image, created=number))
        catalogue.disk(image).parent.mkdir(parents=True, exist_ok=True)
        catalogue.disk(image).write_text(image)
    return found


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself is no part of these tests."""
    monkeypatch.setattr(LocalTarget, "server", lambda *_: None)


def disk(state: Path) -> Path:
    return state / "pool" / "machines" / "mlflow-training.raw"


def test_it_is_made_once_of_an_image(settings: Settings, state: Path, up: set[str]) -> None:
    assert training.deploy(settings, image="one") == "ssh://bakery@10.88.0.3"
    assert up == {"bkabcdef-t"}
    assert disk(state).read_text() == "one"
    disk(state).write_text("used")
    training.deploy(settings, image="one")
    assert disk(state).read_text() == "used", "nothing to do"
    training.deploy(settings)
    assert disk(state).read_text() == "two", "the newest image"
    disk(state).write_text("used")
    training.deploy(settings, replace=True)
    assert disk(state).read_text() == "two"


def test_its_seed_makes_docker_s_user_and_no_server(settings: Settings, state: Path) -> None:
    training.deploy(settings)
    folder = state / "deployments" / "mlflow" / "training"
    seed = folder / "machine" / "seed"
    user_data = (seed / "user-data").read_text()
    assert '[usermod, --append, --groups, docker, "bakery"]' in user_data
    assert "environment" not in user_data.partition("runcmd")[2]
    assert "10.88.0.3/28" in (seed / "network-config").read_text()
    public = (folder / "ssh" / "id_ed25519.pub").read_text().split()[1]
    assert public in (seed / "meta-data").read_text()
    assert not (state / "deployments" / "mlflow" / "ssh").exists(), "the server's key is another"


def test_it_stops_and_starts_and_goes(settings: Settings, state: Path, up: set[str]) -> None:
    with local.opened(settings) as target:
        training.start(target)
        assert not up
        assert target.training.status() is None
    training.deploy(settings)
    assert training.plan(settings) == []
    training.stop_alone(settings)
    assert not up
    with local.opened(settings) as target:
        assert target.training.status() == {
            "state": "stopped", "image": "two", "docker_host": "ssh://bakery@10.88.0.3"
        }  # fmt: skip
        training.start(target)
        assert up
    assert [one.action for one in training.destroy_plan(settings)] == ["delete"]
    training.destroy(settings)
    assert not up
    assert not disk(state).exists()
    with local.opened(settings) as target:
        assert not target.training.image
    assert training.destroy_plan(settings) == []
    with pytest.raises(InputError, match="has no training machine"):
        training.stop_alone(settings)


def test_a_plan_tells_what_would_become_of_it(settings: Settings, up: set[str]) -> None:
    def told() -> list[str]:
        return [f"{one.action} {one.what}" for one in training.plan(settings)]

    assert told() == ["create training machine of image two"]
    assert not up
    training.deploy(settings, image="one")
    assert told() == ["delete training machine", "create training machine of image two"]
    training.deploy(settings)
    up.clear()
    assert told() == ["change training machine"]


def test_a_role_that_no_machine_has_is_refused() -> None:
    training.check_role("server")
    training.check_role("training")
    with pytest.raises(InputError, match="--role gpu"):
        training.check_role("gpu")


def test_without_a_server_there_is_none(state: Path, up: set[str]) -> None:
    with pytest.raises(InputError, match="no deployment is called mlflow"):
        training.deploy(load())
