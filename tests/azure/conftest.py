"""What the tests of the Azure target share: one Azurite, and a login for the fake."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.azure import sshd
from tests.azure.azurite import AzuriteStores
from tests.azure.blob_door import Door, opened
from tests.azure.loopback import Neighbourhood
from tests.azure.matrix import Matrix
from tests.azure.stage import Stage, staged

_OURS = ("BAKERY_", "MLFLOW_", "MYSQL_", "AZURE_")


@pytest.fixture(scope="session")
def stores(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteStores]:
    near = Neighbourhood()
    made = AzuriteStores(tmp_path_factory.mktemp("azurite"), state / "cache", near.address())
    try:
        yield made
    finally:
        made.close()
        near.close()


@pytest.fixture
def door(stores: AzuriteStores) -> Iterator[Door]:
    """A door in front of the storage accounts of all that is made meanwhile."""
    near = Neighbourhood()
    address = near.address()
    with opened(address, stores.address) as made:
        stores.door = address
        try:
            yield made
        finally:
            stores.door = ""
            near.close()


@pytest.fixture(scope="module")
def signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Be signed in as a service principal, and have no other setting."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            patch.delenv(name)
        empty = tmp_path_factory.mktemp("settings") / "bakery.toml"
        empty.touch()
        patch.setenv("BAKERY_CONFIG", str(empty))
        patch.setenv("AZURE_CLIENT_ID", "app")
        patch.setenv("AZURE_CLIENT_SECRET", "any")
        patch.setenv("AZURE_TENANT_ID", "")
        yield


@pytest.fixture
def make_stage(
    state: Path, stores: AzuriteStores, signed_in: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Stage]]:
    """Make an Azure with an image in it, in the place of the one before."""
    with ExitStack() as stack:

        def make(*, image: str | None = "20261126-100000-aaaaaaaa", **options: Any) -> Stage:
            stack.close()
            folder = tmp_path_factory.mktemp("stage")
            stage = stack.enter_context(staged(folder, stores, state / "cache", **options))
            if image:
                stage.bake(image)
            return stage

        yield make


@pytest.fixture(scope="session")
def ssh_server(state: Path) -> sshd.Program:
    """An SSH server for stand-ins: what a stage's `machines.sshd` may be."""
    why = sshd.unusable()
    if why:
        pytest.fail(why)
    return sshd.program(state / "cache")


@pytest.fixture
def matrix(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Matrix:
    return Matrix(request, record_property)


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


@pytest.fixture(scope="module")
def deployed(
    state: Path, stores: AzuriteStores, signed_in: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One deployment that serves, for the tests of a module."""
    with staged(tmp_path_factory.mktemp("stage"), stores, state / "cache") as stage:
        stage.bake("20261126-100000-aaaaaaaa")
        stage.deploy()
        yield stage
