"""A whole deployment without a key: the machines have an identity, whoever deploys a login.

Blob is behind a door that takes tokens and no keys. The key that the account has all the same is
looked for wherever something was written; with a key, the same search finds it.
"""

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bakery.deploy import destroy, rollback
from bakery.errors import BakeryError, InputError
from bakery.status import status
from bakery.users import change
from tests.azure.azurite import AzuriteStores
from tests.azure.loopback import Neighbourhood
from tests.azure.stage import Stage
from tests.azure.storage import ACCOUNT
from tests.azure.token_door import TokenDoor, opened

VMS = "Microsoft.Compute/virtualMachines"
ROLES = "Microsoft.Authorization/roleAssignments"
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"


@dataclass
class Keyless:
    """A stage whose accounts take no keys, and the door in front of them."""

    stage: Stage
    door: TokenDoor


@pytest.fixture
def keyless(make_stage: Callable[..., Stage], stores: AzuriteStores) -> Iterator[Keyless]:
    near = Neighbourhood()
    address = near.address()
    stage = make_stage(forbid_keys=True).told(azure_artifact_access="identity")
    door = TokenDoor(stores.address, stage.fake.tokens, lambda name: keys(stage, name)[0])
    with ExitStack() as stack:
        stack.callback(near.close)
        stack.enter_context(opened(address, door, stage.fake.folder / "tls"))
        stores.door, stores.scheme = address, "https"
        stack.callback(setattr, stores, "door", "")
        stack.callback(setattr, stores, "scheme", "http")
        yield Keyless(stage, door)


def keys(stage: Stage, name: str = "") -> list[str]:
    """Return the account's keys, which Azure has even where nobody may use them."""
    accounts = stage.fake.world.of_type(ACCOUNT)
    [found] = [one for one in accounts if name in {"", one["name"]}]
    return list(stage.fake.world.secret(found["id"])["keys"])


def written(stage: Stage, stores: AzuriteStores) -> Iterator[tuple[str, str]]:
    """Give all that was written anywhere, by what it is: Azure, Blob, machines, this host."""
    for vm in stage.fake.world.of_type(VMS):
        told = bytes.fromhex(stage.fake.world.secret(vm["id"])["custom_data"]).decode()
        yield "custom data", told
        for file in yaml.safe_load(told)["write_files"]:
            yield "custom data", base64.b64decode(file["content"]).decode()
    yield "resources", repr(stage.fake.world.resources)
    [account] = stage.fake.world.of_type(ACCOUNT)
    with stores._client(account["name"], keys(stage)[0]) as client:
        container = client.get_container_client("bakery")
        for name in container.list_blob_names():
            yield "state", container.download_blob(name).readall().decode(errors="replace")
    folders = {"machines": stage.folder / "machines", "this host": stage.settings.state_dir}
    for what, folder in folders.items():
        for path, _, names in os.walk(folder):
            for file in (Path(path) / name for name in names):
                if file.is_file():
                    yield what, file.read_text(encoding="utf-8", errors="replace")


def found_in(stage: Stage, stores: AzuriteStores, said: str) -> set[str]:
    """Return where a key of the account is to be read."""
    rows = [*written(stage, stores), ("log", said)]
    return {what for what, text in rows if any(key in text for key in keys(stage))}


def test_with_a_key_it_is_found_where_it_must_be(
    make_stage: Callable[..., Stage], stores: AzuriteStores, capfd: pytest.CaptureFixture[str]
) -> None:
    """The control of what follows: the search finds keys."""
    stage = make_stage()
    stage.deploy()
    said = "".join(capfd.readouterr())
    assert found_in(stage, stores, said) == {"custom data", "state", "machines"}


def test_a_deployment_s_life_without_a_key(
    keyless: Keyless, stores: AzuriteStores, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = keyless.stage
    calls = stage.calls(stage.deploy)
    stage.check_tidy()
    stage.log_run("without a key")
    calls += stage.calls(lambda: stage.colleague().deploy(replace=True))
    stage.check_tidy()
    assert status(stage.settings)["state"] == "ready"
    change(stage.settings, password=True, storage_key=False)
    rollback(stage.settings)
    stage.check_tidy()
    assert "without a key" in stage.runs()
    assert not [one for one in calls if "Keys" in one or "regenerateKey" in one]
    assert set(keyless.door.seen) == {"Bearer"}
    assert found_in(stage, stores, "".join(capfd.readouterr())) == set()


def test_every_machine_has_the_identity_and_it_the_role(keyless: Keyless) -> None:
    stage = keyless.stage
    stage.deploy()
    stage.deploy(replace=True)
    [identity] = stage.fake.world.of_type(IDENTITIES)
    [role] = stage.fake.world.of_type(ROLES)
    [account] = stage.fake.world.of_type(ACCOUNT)
    assert account["properties"]["allowSharedKeyAccess"] is False
    assert role["properties"]["principalId"] == identity["properties"]["principalId"]
    assert role["properties"]["scope"].lower() == account["id"].lower()
    machines = stage.fake.world.of_type(VMS)
    assert len(machines) == 2
    for vm in machines:
        assert vm["identity"]["type"] == "UserAssigned"
        assert [one.lower() for one in vm["identity"]["userAssignedIdentities"]] == [
            identity["id"].lower()
        ]
    environment = stage.seen().environment()
    assert environment["storage"]["key"] is None
    assert environment["storage"]["client_id"] == identity["properties"]["clientId"]
    destroy(stage.settings, with_data=True)
    assert stage.fake.world.of_type(IDENTITIES) == stage.fake.world.of_type(ROLES) == []


def test_there_is_no_key_to_rotate(keyless: Keyless) -> None:
    keyless.stage.deploy()
    with pytest.raises(InputError, match="there is no storage key"):
        change(keyless.stage.settings, password=False, storage_key=True)
    keyless.stage.check_tidy()


def test_who_deploys_needs_a_right_on_the_blobs(keyless: Keyless) -> None:
    keyless.door.may = False
    with pytest.raises(BakeryError, match="no right on the account's blobs") as refused:
        keyless.stage.deploy()
    assert "Storage Blob Data Contributor" in refused.value.hint
    keyless.door.may = True
    keyless.stage.deploy()
    keyless.stage.check_tidy()


def test_who_deploys_needs_the_right_to_assign_roles(keyless: Keyless) -> None:
    keyless.stage.fake.denied.add("roleAssignments")
    with pytest.raises(BakeryError, match="lacks a right") as refused:
        keyless.stage.deploy()
    assert "assign roles" in refused.value.hint
    assert keyless.stage.named(VMS) == []
    keyless.stage.fake.denied.clear()
    keyless.stage.deploy()
    keyless.stage.check_tidy()
