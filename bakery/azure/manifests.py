"""The whole manifests of the gallery's images: their tags have no room for the packages.

They are kept in this state folder, and beside the deployment's state in Blob where it has an
account already, so that a run on another host can tell what a new image changes.
"""

from pathlib import Path

from bakery.azure.account import Account
from bakery.azure.clients import Clients
from bakery.azure.context import Azure
from bakery.azure.gallery import GalleryImage
from bakery.azure.store import Store
from bakery.errors import BakeryError
from bakery.log import note
from bakery.manifest import Manifest, read_manifest
from bakery.settings import Settings
from bakery.state import write_atomically


def remember(settings: Settings, manifest: Manifest, clients: Clients) -> None:
    """Keep a whole manifest; in Blob only if that can be done."""
    _keep(settings, manifest)
    try:
        store = _store(settings, clients)
        if store is not None:
            store.write(_blob(manifest.id), manifest.model_dump_json(indent=2, by_alias=True))
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
    try:
        store = _store(settings, clients)
        text = store.read(_blob(image.image)) if store else None
    except BakeryError as failed:
        note(f"the packages of {image.image} are not known: {failed}")
        return None
    if text is None:
        return None
    found = Manifest.model_validate_json(text)
    _keep(settings, found)
    return found


def _store(settings: Settings, clients: Clients) -> Store | None:
    """Return the deployment's state, or None before its first deploy."""
    account = Account(Azure(settings, clients))
    found = account.find()
    if found is None:
        return None
    key = next(iter(account.keys().values()), None)
    secret = key.get_secret_value() if key else None
    return Store(clients.blobs(account.endpoint, str(found.name), secret), settings.name)


def _keep(settings: Settings, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=2, by_alias=True)
    write_atomically(_file(settings, manifest.id), text + "\n", mode=0o644)


def _blob(image: str) -> str:
    return f"images/{image}.json"


def _file(settings: Settings, image: str) -> Path:
    return settings.state_dir.absolute() / "azure" / "images" / image / "manifest.json"
