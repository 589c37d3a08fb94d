"""The whole manifests of the gallery's images: their tags have no room for the packages."""

from pathlib import Path

from bakery.azure.gallery import GalleryImage
from bakery.errors import BakeryError
from bakery.manifest import Manifest, read_manifest
from bakery.settings import Settings
from bakery.state import write_atomically


def remember(settings: Settings, manifest: Manifest) -> None:
    """Keep a whole manifest in the state folder."""
    text = manifest.model_dump_json(indent=2, by_alias=True)
    write_atomically(_file(settings, manifest.id), text + "\n", mode=0o644)


def known_manifest(settings: Settings, image: GalleryImage) -> Manifest:
    """Return an image's manifest: whole where it is known here, else without its packages.

    Raises:
        BakeryError: The image was never recorded.
    """
    kept = read_manifest(_file(settings, image.image))
    if kept is not None and kept.bake_key == image.key:
        return kept
    if image.manifest is None:
        raise BakeryError(f"{image.image} has no manifest", hint="./inv prune --target azure")
    return image.manifest


def _file(settings: Settings, image: str) -> Path:
    return settings.state_dir.absolute() / "azure" / "images" / image / "manifest.json"
