"""What is known of an image: what it was made from, what is in it, how long it took."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bakery.errors import InputError
from bakery.state import write_atomically


class BaseInfo(BaseModel):
    """The operating system that the bake started from."""

    name: str
    requested: str
    digest: str
    source: str
    fallback: str


class ContainerInfo(BaseModel):
    """A container image in the image."""

    name: str
    reference: str
    image_id: str
    version: str
    source: str
    size: int
    """Of its archive, in bytes."""


class Manifest(BaseModel):
    """The manifest of an image, `manifest.json`."""

    model_config = ConfigDict(frozen=True)

    schema_: int = Field(default=1, alias="schema")
    id: str
    bake_key: str
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    base: BaseInfo
    containers: list[ContainerInfo]
    packages: dict[str, Any]
    """Docker's and Compose's versions and every installed package with its version."""
    disk_size: int
    """Of the disk as the machine sees it, in bytes."""
    disk_used: int
    """What the disk takes on this host, in bytes."""
    timings: list[tuple[str, float]]
    """The steps of the bake, in seconds."""
    state: Literal["good", "candidate", "rejected"] = "good"
    """A candidate is one that `refresh` has not tested yet; only a good one is ever the newest."""


class Catalogue:
    """The images of a state folder, oldest first; the disks lie in the pool."""

    def __init__(self, state: Path, disks: Path) -> None:
        self.folder = state / "images"
        self.disks = disks / "images"

    def disk(self, image_id: str) -> Path:
        """Return the disk of an image; never written to."""
        return self.disks / f"{image_id}.raw"

    def manifest_file(self, image_id: str) -> Path:
        """Return the manifest's path."""
        return self.folder / image_id / "manifest.json"

    def images(self) -> list[Manifest]:
        """Return every whole image; one whose disk is missing is none."""
        return [found for found in self.manifests() if self.disk(found.id).exists()]

    def manifests(self) -> list[Manifest]:
        """Return every manifest, oldest first."""
        found = [read_manifest(path) for path in self.folder.glob("*/manifest.json")]
        return sorted((one for one in found if one), key=lambda one: one.created)

    def by_key(self, key: str, *, candidate: bool = False) -> Manifest | None:
        """Return the newest good image with a bake key, or the newest `candidate`."""
        state = "candidate" if candidate else "good"
        found = [one for one in self.images() if (one.bake_key, one.state) == (key, state)]
        return found[-1] if found else None

    def choose(self, image_id: str | None) -> Manifest:
        """Return an image by its id, or the newest.

        Raises:
            InputError: There is no such image.
        """
        return _choose(self.images(), image_id)

    def recorded(self, image_id: str | None) -> Manifest:
        """Return the same, without looking for its disk: the pool need not be mounted.

        Raises:
            InputError: There is no such image.
        """
        return _choose(self.manifests(), image_id)

    def add(self, manifest: Manifest) -> None:
        """Record an image; its disk must lie in its place already."""
        text = manifest.model_dump_json(indent=2, by_alias=True)
        write_atomically(self.manifest_file(manifest.id), text + "\n", mode=0o644)


def _choose(images: list[Manifest], image_id: str | None) -> Manifest:
    if image_id is None:
        images = [one for one in images if one.state == "good"]
    found = [one for one in images if image_id in {None, one.id}]
    if found and found[-1].state != "rejected":
        return found[-1]
    if found:
        raise InputError(f"{image_id} did not pass its test", hint="./inv images shows the others")
    if image_id:
        raise InputError(f"no image is called {image_id}", hint="./inv images shows them")
    raise InputError("nothing has been baked", hint="./inv bake")


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest in a file, or None where there is none that can be read."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
