"""The compute gallery: the images of Azure, each a version with its manifest in its tags.

A version begins as a candidate, which nobody gets who asks for the newest image. Tests make it
good, or rejected. Only versions with our tags are ever changed or deleted.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bakery.azure.clients import Clients
from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.group import Group
from bakery.azure.names import IMAGE_TAG, OWNER, OWNER_TAG, group_id
from bakery.azure.operations import found
from bakery.errors import BakeryError, InputError
from bakery.manifest import Manifest
from bakery.settings import Settings

if TYPE_CHECKING:
    from azure.mgmt.compute.models import GalleryImageVersion

KEY_TAG = "mlflow-bakery-key"
STATE_TAG = "mlflow-bakery-state"
GPU_TAG = "mlflow-bakery-gpu"
CANDIDATE, GOOD, REJECTED = "candidate", "good", "rejected"
_MANIFEST_TAG = "mlflow-bakery-manifest"
# Azure takes no longer value of a tag.
_CHUNK = 256
_DEFINITION = "mlflow-"


@dataclass(frozen=True)
class GalleryImage:
    """A version in the gallery."""

    id: str
    """Its full resource id; what a machine is made from."""
    definition: str
    version: str
    state: str
    """candidate, good or rejected."""
    provisioning: str
    """Azure's own: Succeeded, Failed, Creating, ..."""
    tags: Mapping[str, str]
    manifest: Manifest | None
    """None where the bake was killed before it was recorded."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """What its MLflow reads: `revision`, and `ancestors` before it."""

    @property
    def image(self) -> str:
        """The id by which users know it."""
        return self.tags.get(IMAGE_TAG, self.version)

    @property
    def key(self) -> str:
        """Its bake key."""
        return self.tags.get(KEY_TAG, "")

    @property
    def gpu(self) -> bool:
        """Whether NVIDIA's driver and container toolkit are in it."""
        return self.tags.get(GPU_TAG) == "yes"

    @property
    def whole(self) -> bool:
        """Whether it can be tested and deployed."""
        return self.provisioning == "Succeeded" and self.manifest is not None


class Gallery:
    """The images of one gallery, oldest first."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self._clients = clients
        self._group = settings.azure_resource_group
        self._name = settings.azure_gallery

    @property
    def id(self) -> str:
        """The gallery's full resource id."""
        place = f"{group_id(self.settings)}/providers/Microsoft.Compute"
        return f"{place}/galleries/{self._name}"

    @explained("the gallery")
    def ensure(self, base: str) -> None:
        """Make the resource group, the gallery and the definition of a base, where missing.

        Raises:
            InputError: What is there is no place for our images.
            BakeryError: Azure failed.
        """
        compute = self._clients.compute
        place = {"location": self.settings.azure_location, "tags": {OWNER_TAG: OWNER}}
        Group(Azure(self.settings, self._clients)).ensure()
        if self._name not in {one.name for one in self._galleries()}:
            compute.galleries.begin_create_or_update(
                self._group, self._name, _body({**place, "properties": {}})
            ).result()
        found = self._definition(base)
        if found is None:
            compute.gallery_images.begin_create_or_update(
                self._group, self._name, definition(base), _body({**place, **_properties(base)})
            ).result()
        elif found.get("hyperVGeneration") != "V2" or found.get("osState") != "Generalized":
            raise InputError(
                f"{definition(base)} in the gallery {self._name} is not for generalized images of"
                " generation 2",
                hint="set another azure_gallery",
            )

    @explained("the gallery's images")
    def images(self) -> list[GalleryImage]:
        """Return our images, oldest first, also those that are not whole."""
        rows = found(lambda: [one for name in self._definitions() for one in self._versions(name)])
        return sorted(rows or [], key=lambda one: one.image)

    def by_key(self, key: str) -> GalleryImage | None:
        """Return the newest image with a bake key that is not rejected."""
        found = [one for one in self.images() if one.key == key and one.state != REJECTED]
        return found[-1] if found else None

    def choose(self, image: str | None, *, gpu: bool | None = None) -> GalleryImage:
        """Return an image by its id, or the newest good one.

        With `gpu` the newest that has NVIDIA's driver, or that has not; None: either.

        Raises:
            InputError: There is no such image, or it is not good.
        """
        found = self.images()
        good = [one for one in found if one.whole and one.state == GOOD]
        if image is None:
            fit = [one for one in good if gpu is None or one.gpu == gpu]
            if fit:
                return fit[-1]
            raise _none_fits(good, gpu=gpu)
        named = next((one for one in found if one.image == image), None)
        if named is None:
            raise InputError(f"no image is called {image}", hint="./inv images --target azure")
        if named not in good:
            raise InputError(
                f"{image} is {named.state if named.whole else 'not whole'}: no test passed it",
                hint="./inv images --target azure shows the good ones",
            )
        return named

    @explained("the image")
    def record(
        self, definition: str, version: str, manifest: Manifest, schema: Mapping[str, Any]
    ) -> None:
        """Write an image's manifest, without its packages, and its schema into its tags."""
        short = manifest.model_copy(update={"packages": {}})
        facts = {"manifest": json.loads(short.model_dump_json(by_alias=True)), "schema": schema}
        mlflow = next((c.version for c in manifest.containers if c.name == "mlflow"), "")
        tags = {
            "mlflow-bakery-base": manifest.base.name,
            "mlflow-bakery-mlflow": mlflow,
            "mlflow-bakery-schema": str(schema.get("revision", "")),
            **_packed(facts),
        }
        self._change(definition, version, tags)

    @explained("the image")
    def promote(self, image: GalleryImage) -> None:
        """Let everybody have a candidate who asks for the newest image."""
        self._change(image.definition, image.version, {STATE_TAG: GOOD}, exclude=False)

    @explained("the image")
    def reject(self, image: GalleryImage) -> None:
        """Say that a candidate did not pass its test; it stays excluded."""
        self._change(image.definition, image.version, {STATE_TAG: REJECTED})

    @explained("the image")
    def delete(self, image: GalleryImage) -> None:
        """Delete an image."""
        self._clients.compute.gallery_image_versions.begin_delete(
            self._group, self._name, image.definition, image.version
        ).result()

    def find(self, definition: str, version: str) -> GalleryImage | None:
        """Return our version of that name, or None."""
        return next((one for one in self._versions(definition) if one.version == version), None)

    def _change(
        self, definition: str, version: str, tags: Mapping[str, str], *, exclude: bool | None = None
    ) -> None:
        versions = self._clients.compute.gallery_image_versions
        found = versions.get(self._group, self._name, definition, version)
        if (found.tags or {}).get(OWNER_TAG) != OWNER:
            raise BakeryError(
                f"{definition} {version} in the gallery is not ours", hint="it was left alone"
            )
        found.tags = {**(found.tags or {}), **tags}
        if exclude is not None and found.properties and found.properties.publishing_profile:
            found.properties.publishing_profile.exclude_from_latest = exclude
        versions.begin_create_or_update(
            self._group, self._name, definition, version, found
        ).result()

    def _galleries(self) -> Iterator[Any]:
        yield from self._clients.compute.galleries.list_by_resource_group(self._group)

    def _definitions(self) -> list[str]:
        listed = self._clients.compute.gallery_images.list_by_gallery(self._group, self._name)
        return [str(one.name) for one in listed if str(one.name).startswith(_DEFINITION)]

    def _definition(self, base: str) -> dict[str, Any] | None:
        listed = self._clients.compute.gallery_images.list_by_gallery(self._group, self._name)
        found = next((one for one in listed if one.name == definition(base)), None)
        return None if found is None else dict(found.as_dict()["properties"])

    def _versions(self, definition: str) -> Iterator[GalleryImage]:
        listed = self._clients.compute.gallery_image_versions.list_by_gallery_image(
            self._group, self._name, definition
        )
        for one in listed:
            if (one.tags or {}).get(OWNER_TAG) == OWNER:
                yield _image(definition, one)


def _none_fits(good: list[GalleryImage], *, gpu: bool | None) -> InputError:
    if gpu:
        return InputError(
            "no image has NVIDIA's driver and container toolkit in it",
            hint="BAKERY_AZURE_GPU=true ./inv bake --target azure bakes one",
        )
    if good:
        return InputError(
            "there are only images for training machines",
            hint="./inv bake --target azure; or azure_gpu = true serves from these, too",
        )
    return InputError("nothing has been baked", hint="./inv bake --target azure")


def definition(base: str) -> str:
    """Return the name of the definition that has the images of a base."""
    return f"{_DEFINITION}{base}"


def _properties(base: str) -> dict[str, Any]:
    # No security type: a build machine may then publish straight into it.
    return {
        "properties": {
            "osType": "Linux",
            "osState": "Generalized",
            "hyperVGeneration": "V2",
            "architecture": "x64",
            "identifier": {"publisher": OWNER, "offer": "mlflow", "sku": base},
        }
    }


def _image(definition: str, found: "GalleryImageVersion") -> GalleryImage:
    tags = dict(found.tags or {})
    properties = found.as_dict().get("properties", {})
    facts = _unpacked(tags)
    return GalleryImage(
        id=str(found.id),
        definition=definition,
        version=str(found.name),
        state=tags.get(STATE_TAG, CANDIDATE),
        provisioning=str(properties.get("provisioningState", "")),
        tags=tags,
        manifest=Manifest.model_validate(facts["manifest"]) if facts else None,
        schema=facts.get("schema", {}),
    )


def _packed(facts: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(facts, separators=(",", ":")).encode()
    packed = base64.b64encode(zlib.compress(text, 9)).decode()
    parts = [packed[start : start + _CHUNK] for start in range(0, len(packed), _CHUNK)]
    return {f"{_MANIFEST_TAG}-{number}": part for number, part in enumerate(parts)}


def _unpacked(tags: Mapping[str, str]) -> dict[str, Any]:
    parts: list[str] = []
    while (part := tags.get(f"{_MANIFEST_TAG}-{len(parts)}")) is not None:
        parts.append(part)
    if not parts:
        return {}
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode("".join(parts))))
    return found


def _body(value: dict[str, Any]) -> Any:
    """Return a body as the SDK takes it; its types call every key required."""
    return value
