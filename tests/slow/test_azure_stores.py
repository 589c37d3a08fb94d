"""Storage accounts of the fake: a real Azurite that accepts the present keys and no others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from tests.azure.clients import Clients
from tests.azure.fake import Fake
from tests.azure.modes import light

ACCOUNT: Any = {"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Iterator[Fake]:
    with light(tmp_path_factory.mktemp("azure"), cache=state / "cache", registered=True) as made:
        group: Any = {"location": "westeurope"}
        Clients(made).resource.resource_groups.create_or_update("rg", group)
        yield made


def service(fake: Fake, account: str, key: str) -> BlobServiceClient:
    found = Clients(fake).storage.storage_accounts.get_properties("rg", account)
    assert found.primary_endpoints is not None
    credential = AzureNamedKeyCredential(account, key)
    return BlobServiceClient(str(found.primary_endpoints.blob), credential, retry_total=0)


def names(fake: Fake, account: str, key: str) -> list[str]:
    with service(fake, account, key) as client:
        return [str(one.name) for one in client.list_containers()]


def test_a_new_key_counts_at_once_and_the_old_one_no_more(fake: Fake) -> None:
    storage = Clients(fake).storage
    storage.storage_accounts.begin_create("rg", "mine", ACCOUNT).result()
    keys: Any = storage.storage_accounts.list_keys("rg", "mine")["keys"]
    old, other = (one["value"] for one in keys)
    body: Any = {}
    storage.blob_containers.create("rg", "mine", "made-by-arm", body)
    with service(fake, "mine", old) as client:
        client.create_container("made-by-data-plane")
        client.get_blob_client("made-by-arm", "blob").upload_blob(b"kept")
    both = ["made-by-arm", "made-by-data-plane"]
    assert sorted(one.name or "" for one in storage.blob_containers.list("rg", "mine")) == both
    renew: Any = {"keyName": "key1"}
    renewed: Any = storage.storage_accounts.regenerate_key("rg", "mine", renew)["keys"]
    with pytest.raises(HttpResponseError):
        names(fake, "mine", old)
    assert sorted(names(fake, "mine", other)) == both
    with service(fake, "mine", renewed[0]["value"]) as client:
        blob = client.get_blob_client("made-by-arm", "blob")
        assert blob.download_blob().readall() == b"kept"


def test_a_deleted_account_leaves_nothing_to_its_namesake(fake: Fake) -> None:
    storage = Clients(fake).storage
    found = []
    for _ in range(2):
        storage.storage_accounts.begin_create("rg", "again", ACCOUNT).result()
        keys: Any = storage.storage_accounts.list_keys("rg", "again")["keys"]
        found.append(names(fake, "again", keys[0]["value"]))
        with service(fake, "again", keys[0]["value"]) as client:
            client.create_container("left")
        storage.storage_accounts.delete("rg", "again")
    assert found == [[], []]
