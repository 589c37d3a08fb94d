"""Baking on Azure: Packer makes a candidate in the gallery; a machine proves it; it counts."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bakery import packer
from bakery.azure import candidate, gallery, leftovers, marketplace
from bakery.azure.clients import Clients
from bakery.azure.context import Azure
from bakery.azure.gallery import KEY_TAG, STATE_TAG, Gallery, GalleryImage
from bakery.azure.group import Group
from bakery.azure.manifests import known_manifest, remember
from bakery.azure.marketplace import Urn
from bakery.azure.names import IMAGE_TAG, subscription
from bakery.azure.recipe import PackerLogin, Places, azure_arm, disk_gib, packer_login
from bakery.azure.subscription import choose_size
from bakery.containers import ContainerImage
from bakery.errors import BakeryError
from bakery.log import note, step, timings, warn
from bakery.manifest import Manifest
from bakery.recipe import Inputs, Recipe, bake_key, container_info, images_json, write_recipe
from bakery.settings import Settings
from bakery.state import write_atomically


def check(settings: Settings) -> None:
    """Refuse what cannot work, before minutes are spent on container images.

    Raises:
        InputError: With what to do about it.
    """
    packer.check_for_azure()
    subscription(settings)
    marketplace.urn(marketplace.base_name(settings))


def bake(settings: Settings, containers: list[ContainerImage], *, force: bool) -> Manifest:
    """Return the gallery's image of these inputs: baked, tested and promoted unless it is there.

    A run that was killed is gone on with: a candidate that is whole is not baked again.

    Raises:
        InputError: It cannot be baked; nothing was made.
        BakeryError: A step failed; no machine is left running.
    """
    clients = Clients(settings)
    shelf = Gallery(settings, clients)
    with step("Base"):
        Group(Azure(settings, clients)).register_providers()
        urn = marketplace.published(settings, clients)
    key = _key(settings, urn, containers)
    with _workplace(settings, clients, shelf) as folder:
        found = None if force else shelf.by_key(key)
        if found and found.state == gallery.GOOD:
            note(f"nothing to bake: {found.image} is what these inputs make")
            return known_manifest(settings, found, clients)
        if found is None:
            found = _Bake(settings, clients, shelf, folder, key).build(urn, containers)
        with step("Test the candidate"):
            group = leftovers.temporary_name()
            _begin(settings, group, found.version)
            candidate.test(settings, clients, shelf, found, group=group, folder=folder)
            _end(settings)
        with step("Promote"):
            shelf.promote(found)
    note(f"baked {found.image}")
    return known_manifest(settings, found, clients)


def _key(settings: Settings, urn: Urn, containers: list[ContainerImage]) -> str:
    base = marketplace.base_info(marketplace.base_name(settings), urn)
    size, gpu = disk_gib(settings), settings.azure_gpu
    return bake_key(base.digest, containers, size, "azure", gpu=gpu)


@dataclass(frozen=True)
class _Bake:
    """One bake, with the names of all that it makes."""

    settings: Settings
    clients: Clients
    shelf: Gallery
    folder: Path
    key: str

    def build(self, urn: Urn, containers: list[ContainerImage]) -> GalleryImage:
        """Return a new candidate, recorded.

        Raises:
            BakeryError: A step failed; what it made is removed again.
        """
        first = len(timings())
        base = marketplace.base_info(marketplace.base_name(self.settings), urn)
        if base.name in marketplace.OUT_OF_SUPPORT:
            note(marketplace.OUT_OF_SUPPORT[base.name])
        now = datetime.now(UTC)
        image = f"{now:%Y%m%d-%H%M%S}-{self.key[:8]}"
        places = self._places(image, gallery.definition(base.name), now)
        log = _images(self.settings) / image / "bake.log"
        with step("Recipe: render and validate"):
            login = packer_login(self.settings)
            recipe = self._write_recipe(urn, containers, login, places)
        with step("Resource group, gallery, image definition"):
            self.shelf.ensure(base.name)
        with step("Packer: boot, provision, capture, publish"):
            self._run_packer(recipe, places, login, log)
        with step("Record"):
            manifest = Manifest(
                id=image,
                bake_key=self.key,
                base=base,
                containers=[container_info(one) for one in containers],
                packages=json.loads(recipe.packages.read_text(encoding="utf-8")),
                disk_size=disk_gib(self.settings) << 30,
                disk_used=0,
                timings=[*timings(first), *packer.provision_timings(log)],
            )
            schema = json.loads(recipe.schema.read_text(encoding="utf-8"))
            remember(self.settings, manifest, self.clients)
            self.shelf.record(places.definition, places.version, manifest, schema)
            found = self.shelf.find(places.definition, places.version)
        if found is None or not found.whole:
            raise BakeryError(f"{image} is not in the gallery", hint="run it again", log=log)
        _end(self.settings)
        return found

    def _places(self, image: str, definition: str, now: datetime) -> Places:
        tags = {
            **leftovers.temporary_tags(),
            IMAGE_TAG: image,
            KEY_TAG: self.key,
            STATE_TAG: gallery.CANDIDATE,
            **({gallery.GPU_TAG: "yes"} if self.settings.azure_gpu else {}),
        }
        # Three numbers without leading zeros.
        version = f"{now:%Y%m%d}.{int(f'{now:%H%M%S}')}.0"
        return Places(leftovers.temporary_name(), tags, definition, version)

    def _write_recipe(
        self, urn: Urn, containers: list[ContainerImage], login: PackerLogin, places: Places
    ) -> Recipe:
        size = choose_size(self.settings, self.clients).name
        inputs = Inputs(
            base=marketplace.base_name(self.settings),
            archives={one.name: one.archive for one in containers},
            images_json=images_json(containers),
            source="azure-arm",
            target="azure",
            gpu=self.settings.azure_gpu,
            azure=azure_arm(self.settings, login, urn, places, size=size),
        )
        _packer, version = packer.find_packer()
        recipe = write_recipe(recipe_folder(self.settings), inputs, version)
        packer.check_azure_plugin(recipe.folder)
        packer.validate(recipe.folder, login.variables, self._trust)
        return recipe

    def _run_packer(self, recipe: Recipe, places: Places, login: PackerLogin, log: Path) -> None:
        _begin(self.settings, places.temporary_group, places.version)
        try:
            packer.build(recipe.folder, log, login.variables, self._trust)
            _check_artifact(
                recipe, f"{self.shelf.id}/images/{places.definition}/versions/{places.version}"
            )
        except BaseException:
            _clear(self.settings, self.clients, self.shelf)
            raise

    @property
    def _trust(self) -> Path | None:
        return self.settings.azure_ca_bundle


def _check_artifact(recipe: Recipe, wanted: str) -> None:
    """Compare what Packer says that it made with what it was to make."""
    builds = json.loads(recipe.built.read_text(encoding="utf-8"))["builds"]
    made = str(builds[-1]["artifact_id"])
    if made.lower() != wanted.lower():
        raise BakeryError(f"Packer made {made}, not {wanted}", hint="look at both in the portal")


@contextmanager
def _workplace(settings: Settings, clients: Clients, shelf: Gallery) -> Iterator[Path]:
    """Give a work folder to one bake at a time, after removing what a killed one left."""
    state = settings.state_dir.absolute() / "azure"
    folder = state / "bake"
    state.mkdir(parents=True, exist_ok=True)
    with (state / "bake.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BakeryError("another bake is at work here", hint="wait for it to end") from None
        _clear(settings, clients, shelf)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(settings: Settings, clients: Clients, shelf: Gallery) -> None:
    """Remove what a bake that did not end has left: its temporary group, a version not whole."""
    file = _begun(settings)
    if not file.exists():
        return
    begun = json.loads(file.read_text(encoding="utf-8"))
    try:
        leftovers.remove(clients, begun["group"])
        found = next((one for one in shelf.images() if one.version == begun["version"]), None)
        if found is not None and not found.whole:
            shelf.delete(found)
    except BakeryError as failed:
        warn(f"not removed: resource group {begun['group']}: {failed}; the next bake tries again")
        return
    _end(settings)


def _begin(settings: Settings, group: str, version: str) -> None:
    """Write down what is about to be made, for the run after one that is killed."""
    begun = {"group": group, "version": version}
    write_atomically(_begun(settings), json.dumps(begun) + "\n")


def _end(settings: Settings) -> None:
    _begun(settings).unlink(missing_ok=True)


def _begun(settings: Settings) -> Path:
    return settings.state_dir.absolute() / "azure" / "bake.json"


def recipe_folder(settings: Settings) -> Path:
    """Return where a bake's recipe lies while it runs."""
    return settings.state_dir.absolute() / "azure" / "bake" / "packer"


def _images(settings: Settings) -> Path:
    return settings.state_dir.absolute() / "azure" / "images"
