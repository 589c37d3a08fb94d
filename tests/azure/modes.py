"""A fake with what stands behind it, and what the product is told of it."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bakery.azure.clients import Clients
from bakery.azure.gallery import CANDIDATE, GPU_TAG, KEY_TAG, STATE_TAG, Gallery, definition
from bakery.azure.names import IMAGE_TAG, OWNER, OWNER_TAG
from bakery.manifest import Manifest
from bakery.settings import Settings
from tests.azure import login
from tests.azure.azurite import AzuriteStores
from tests.azure.box import box
from tests.azure.clients import Token
from tests.azure.fake import Fake, Options, serving
from tests.azure.images import VERSION
from tests.azure.loopback import Neighbourhood
from tests.azure.pebble import Pebble, running
from tests.azure.standin import StandIns

_PACKER = Path(__file__).parent / "packer" / "bin" / "packer"


@contextmanager
def light(
    folder: Path,
    *,
    cache: Path,
    stores: AzuriteStores | None = None,
    options: Options | None = None,
    **values: Any,
) -> Iterator[Fake]:
    """Give a fake with a real Azurite and stand-ins of machines: cases take seconds.

    Args:
        folder: For all that belongs to this one.
        cache: Where Azurite is installed.
        stores: An Azurite that is there already; several fakes may share one.
        options: How it behaves; by default names resolve on this host.
        values: As of `serving`.
    """
    folder = folder.absolute()
    own, addresses = stores is None, Neighbourhood()
    blobs = stores or AzuriteStores(folder / "azurite", cache, addresses.address())
    machines = StandIns(folder / "machines", addresses)
    try:
        chosen = options or Options(resolve=True)
        with serving(folder, options=chosen, machines=machines, stores=blobs, **values) as fake:
            _write_programs(fake, folder / "bin")
            try:
                yield fake
            finally:
                for account in fake.world.of_type("Microsoft.Storage/storageAccounts"):
                    blobs.remove(account["name"])
    finally:
        machines.close()
        if own:
            blobs.close()
        addresses.close()


def _write_programs(fake: Fake, folder: Path) -> None:
    """Write an `az`, and a `packer` that bakes into the fake, to be first on PATH."""
    login.write_az(fake, folder)
    (folder / "packer").unlink(missing_ok=True)
    (folder / "packer").symlink_to(_PACKER)


@contextmanager
def full(folder: Path, state: Path, **values: Any) -> Iterator[tuple[Fake, Pebble]]:
    """Give Azure in a box: machines boot the images of a state folder, Pebble signs for them.

    Args:
        folder: For all that belongs to this one.
        state: The state folder whose images boot, and in whose cache Azurite is installed.
        values: As of `serving`.
    """
    folder = folder.absolute()
    with ExitStack() as stack:
        machines = stack.enter_context(box(folder / "box", state))
        gateway = machines.network.gateway
        pebble = stack.enter_context(running(folder / "pebble", gateway))
        stores = AzuriteStores(folder / "azurite", state / "cache", gateway)
        stack.callback(stores.close)
        fake = stack.enter_context(
            serving(
                folder, options=Options(resolve=True), machines=machines, stores=stores, **values
            )
        )
        _write_programs(fake, folder / "bin")
        yield fake, pebble


def environment(fake: Fake, pebble: Pebble | None = None) -> dict[str, str]:
    """Return what the product reads from the environment to talk to a fake."""
    found = {
        "BAKERY_TARGET": "azure",
        "BAKERY_AZURE_SUBSCRIPTION": fake.subscription,
        "BAKERY_AZURE_TENANT": fake.tenant,
        "BAKERY_AZURE_LOCATION": fake.options.location,
        "BAKERY_AZURE_BASE_URL": fake.url,
        "BAKERY_AZURE_AUTHORITY": fake.url,
        "BAKERY_AZURE_CA_BUNDLE": str(fake.ca_file),
        "BAKERY_AZURE_PRICES_URL": f"{fake.url}/api/retail/prices",
        "BAKERY_AZURE_POLLING_SECONDS": "0",
        "BAKERY_AZURE_RETRY_SECONDS": "0.01",
        "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential",
        # `az` and `packer` of ours, and the Python that they need.
        "PATH": os.pathsep.join(
            [str(fake.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
    }
    if isinstance(fake.machines, StandIns):
        found["BAKERY_ACME_ROOT"] = str(fake.machines.ca_file)
    if pebble is not None:
        # Things really take their time there.
        found["BAKERY_AZURE_POLLING_SECONDS"] = "0.2"
        found["BAKERY_ACME_DIRECTORY"] = pebble.directory
        found["BAKERY_ACME_CA"] = str(pebble.ca)
        found["BAKERY_ACME_ROOT"] = str(pebble.root)
    return found


def publish(
    fake: Fake,
    manifest: Manifest,
    schema: Mapping[str, Any],
    group: str = "mlflow-bakery",
    *,
    gpu: bool = False,
) -> str:
    """Put an image into the fake's gallery as a bake leaves it, promoted; return the version's id.

    What boots from it is the local image of the manifest's id, in full mode.
    """
    settings = Settings(
        azure_subscription=fake.subscription, azure_resource_group=group,
        azure_location=fake.options.location, azure_base_url=fake.url,
        azure_ca_bundle=fake.ca_file, azure_polling_seconds=0, azure_retry_seconds=0.01,
    )  # fmt: skip
    clients = Clients(settings)
    clients.login = Token(fake)  # type: ignore[assignment]
    fake.world.providers["Microsoft.Compute"] = "Registered"
    gallery = Gallery(settings, clients)
    gallery.ensure(manifest.base.name)
    kind, version = definition(manifest.base.name), f"1.0.{fake.number()}"
    place = f"{gallery.id}/images/{kind}/versions/{version}"
    fake.world.put(
        {
            "id": place, "name": version, "type": VERSION, "location": fake.options.location,
            "tags": {
                OWNER_TAG: OWNER, KEY_TAG: manifest.bake_key, IMAGE_TAG: manifest.id,
                STATE_TAG: CANDIDATE, **({GPU_TAG: "yes"} if gpu else {}),
            },
            "properties": {
                "provisioningState": "Succeeded",
                "storageProfile": {"source": {}},
                "publishingProfile": {
                    "targetRegions": [{"name": fake.options.location}], "excludeFromLatest": True,
                },
            },
        }
    )  # fmt: skip
    gallery.record(kind, version, manifest, schema)
    found = gallery.find(kind, version)
    assert found is not None
    gallery.promote(found)
    return place
