"""The whole manifests of the gallery's images: their tags have no room for the packages.

They are kept in this state folder, and beside the deployment's state in Blob where it has an
account already, so that a run on another host can tell what a new image changes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.gallery import GalleryImage
from bakery.azure.names import Names
from bakery.errors import BakeryError
from bakery.log import note
from bakery.manifest import Manifest, read_manifest
from bakery.settings import Settings
from bakery.state import write_atomically

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

_CONTAINER = "bakery"


def remember(settings: Settings, manifest: Manifest, clients: Clients) -> None:
    """Keep a whole manifest; in Blob only if that can be done."""
    _keep(settings, manifest)
    try:
        container = _container(settings, clients)
        if container is not None:
            with explained("keep the image's manifest"):
                text = manifest.model_dump_json(indent=2, by_alias=True)
                container.upload_blob(_blob(manifest.id), text.encode(), overwrite=True)
    except BakeryError as failed:
        note(f"the list of packages is kept on this host only: {failed}")


def known_manifest(
    settings: Settings, image: GalleryImage, clients: Clients | None = None
) -> Manifest:
    """Return an image's manifest: whole where it is known, else without its packages.

    Blob is asked if there are `clients`.

    Raises:
        BakeryError: The image was never recorded.
    """
    kept = read_manifest(_file(settings, image.image))
    if kept is None and clients is not None:
        kept = _fetched(settings, image, clients)
    if kept is not None and kept.bake_key == image.key:
        return kept
    if image.manifest is None:
        raise BakeryError(f"{image.image} has no manifest", hint="./inv prune --target azure")
    return image.manifest


def _fetched(settings: Settings, image: GalleryImage, clients: Clients) -> Manifest | None:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        container = _container(settings, clients)
        if container is None:
            return None
        with explained("read the image's manifest"):
            try:
                text = container.download_blob(_blob(image.image), encoding="utf-8").readall()
            except ResourceNotFoundError:
                return None
    except BakeryError as failed:
        note(f"the packages of {image.image} are not known: {failed}")
        return None
    found = Manifest.model_validate_json(text)
    _keep(settings, found)
    return found


@explained("look for the deployment's storage account")
def _container(settings: Settings, clients: Clients) -> "ContainerClient | None":
    """Return the container of the deployment's state, or None before its first deploy."""
    names, group = Names(settings), settings.azure_resource_group
    accounts = clients.storage.storage_accounts
    ours = [one for one in accounts.list_by_resource_group(group) if names.owns(one.tags)]
    endpoints = ours[0].primary_endpoints if ours else None
    if endpoints is None or not endpoints.blob:
        return None
    name = str(ours[0].name)
    key = None
    if settings.azure_artifact_access == "key":
        key = str(accounts.list_keys(group, name)["keys"][0]["value"])
    container = clients.blobs(str(endpoints.blob), name, key).get_container_client(_CONTAINER)
    return container if container.exists() else None


def _keep(settings: Settings, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=2, by_alias=True)
    write_atomically(_file(settings, manifest.id), text + "\n", mode=0o644)


def _blob(image: str) -> str:
    return f"images/{image}.json"


def _file(settings: Settings, image: str) -> Path:
    return settings.state_dir.absolute() / "azure" / "images" / image / "manifest.json"
