"""Baking on this host: Packer provisions a machine that was booted from a copy of the base."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bakery import disk, machine, network, packer, pool, signals, ssh
from bakery.bases import Base, resolve_base
from bakery.containers import ContainerImage
from bakery.drivers.base import Driver, MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, timings
from bakery.manifest import BaseInfo, Catalogue, Manifest
from bakery.recipe import Inputs, Recipe, bake_key, container_info, images_json, write_recipe
from bakery.render import render
from bakery.run import run
from bakery.settings import Settings
from bakery.targets.base import SshAccess


def check(settings: Settings) -> None:
    """Refuse what can be seen to fail before anything is made.

    Raises:
        InputError: With what to do about it.
    """
    Nspawn().check()
    state = settings.state_dir.absolute()
    if not Catalogue(state, state / "pool").manifests():
        pool.check_space(state)  # the first bake makes base and container images, too


def bake(
    settings: Settings, containers: list[ContainerImage], *, force: bool, keep: bool, good: bool
) -> Manifest:
    """Return the local image of these inputs, baked unless it is there.

    A new one is a candidate unless it is `good` at once.

    Raises:
        InputError: This host cannot bake.
        BakeryError: A step failed; nothing is left running (unless `keep`).
    """
    state = settings.state_dir.absolute()
    with pool.opened(state) as disks:
        catalogue = Catalogue(state, disks)
        with step("Base"):
            base = resolve_base(settings.base, cache=disks)
        key = bake_key(base.digest, containers, settings.disk_gib)
        found = catalogue.by_key(key)
        if found and not force:
            note(f"nothing to bake: {found.id} is what these inputs make")
            return found
        candidate = None if good or force else catalogue.by_key(key, candidate=True)
        if candidate:
            note(f"{candidate.id} is baked already, and not tested yet")
            return candidate
        return _bake(settings, base, containers, key, catalogue, keep=keep, good=good)


def promoted(
    settings: Settings, made: Manifest, prove: Callable[[Settings, Manifest], None]
) -> Manifest:
    """Return a candidate made good, if it passes; else it is rejected.

    Raises:
        InputError: It could not be tried here; it stays a candidate.
        BakeryError: It did not pass.
    """
    state = settings.state_dir.absolute()
    try:
        prove(settings, made)
    except InputError:
        raise
    except BakeryError:
        Catalogue(state, state / "pool").add(made.model_copy(update={"state": "rejected"}))
        raise
    good = made.model_copy(update={"state": "good"})
    Catalogue(state, state / "pool").add(good)
    return good


def _bake(
    settings: Settings,
    base: Base,
    containers: list[ContainerImage],
    key: str,
    catalogue: Catalogue,
    *,
    keep: bool,
    good: bool,
) -> Manifest:
    first = len(timings())
    started = datetime.now(UTC)
    image = f"{started:%Y%m%d-%H%M%S}-{key[:8]}"
    state = settings.state_dir.absolute()
    log = state / "images" / image / "bake.log"
    pool.check_space(state)
    with _workplace(state, keep=keep) as place:
        with step("Recipe: render and validate"):
            recipe = _write_recipe(place, base, containers)
        with _machine(settings, place, base, keep=keep) as (driver, spec):
            with step("Provision with Packer"):
                packer.build(recipe.folder, log)
            with step("Shut down"):
                driver.stop(spec)
        with step("Publish"):
            manifest = Manifest(
                id=image,
                bake_key=key,
                base=_base_info(base),
                containers=[container_info(one) for one in containers],
                packages=json.loads(recipe.packages.read_text(encoding="utf-8")),
                disk_size=spec.disk.stat().st_size,
                disk_used=spec.disk.stat().st_blocks * 512,
                timings=[*timings(first), *packer.provision_timings(log)],
                state="good" if good else "candidate",
            )
            _publish(spec.disk, manifest, catalogue)
    note(f"baked {image}")
    return manifest


@dataclass(frozen=True)
class Place:
    """Where a bake works: its folder and its network."""

    folder: Path
    network: network.Network

    @property
    def access(self) -> SshAccess:
        """How to log in to the bake's machine."""
        return build_access(self.folder, self.network.management(0))


@contextmanager
def _workplace(state: Path, *, keep: bool) -> Iterator[Place]:
    """Give a work folder and a network to one bake at a time, cleaned of what a killed one left."""
    folder = state / "bake"
    name = f"bk{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    with (state / "bake.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BakeryError("another bake is at work here", hint="wait for it to end") from None
        Nspawn().stop(_spec(state, folder, name), seconds=0)
        network.take_down(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        failed = True
        try:
            place = Place(folder, network.allot(name))
            ssh.make_key(place.access.key)
            yield place
            failed = False
        finally:
            with signals.held_back():
                if not (failed and keep):
                    network.take_down(name)
                    shutil.rmtree(folder, ignore_errors=True)


def _spec(state: Path, folder: Path, name: str) -> MachineSpec:
    return MachineSpec(
        name=name, disk=state / "pool" / "bake.raw", folder=folder / "machine", bridge=name
    )


def _write_recipe(place: Place, base: Base, containers: list[ContainerImage]) -> Recipe:
    inputs = Inputs(
        base=base.name,
        archives={one.name: one.archive for one in containers},
        images_json=images_json(containers),
        ssh=place.access,
    )
    _packer, version = packer.find_packer()
    recipe = write_recipe(place.folder / "packer", inputs, version)
    packer.install_plugins(recipe.folder)
    packer.validate(recipe.folder)
    return recipe


@contextmanager
def _machine(
    settings: Settings, place: Place, base: Base, *, keep: bool
) -> Iterator[tuple[Driver, MachineSpec]]:
    """Boot a machine from a copy of the base; it does not outlive the bake."""
    driver = Nspawn()
    spec = _spec(settings.state_dir.absolute(), place.folder, place.network.name)
    access = place.access
    failed = True
    try:
        with step("Copy the base"):
            pool.copy(base.disk, spec.disk)
            disk.grow_root(spec.disk, settings.disk_gib << 30)
        with step("Boot the bake's machine"):
            machine.write_seed(spec, *_build_seed(place))
            machine.boot(driver, spec, access, seconds=settings.boot_seconds)
        yield driver, spec
        failed = False
    finally:
        with signals.held_back():
            if failed and keep:
                note(f"kept, as asked: ssh {' '.join(access.options)} {access.user}@{access.host}")
            elif failed:
                driver.stop(spec, seconds=10)
                spec.disk.unlink(missing_ok=True)


def build_access(folder: Path, host: str) -> SshAccess:
    """Return how to log in to a machine that is baked, with the key in its folder."""
    return SshAccess(
        host=host, user="bake", key=folder / "id_ed25519", known_hosts=folder / "known_hosts"
    )


def _build_seed(place: Place) -> tuple[str, str, str]:
    public = ssh.make_key(place.access.key)
    instance = f"bake-{datetime.now(UTC):%Y%m%d%H%M%S}"
    return (
        render("cloud-init/build-user-data.yaml.j2", public_key=public),
        render(
            "cloud-init/meta-data.yaml.j2", instance=instance, hostname="bake", public_key=public
        ),
        machine.network_config(place.network, [place.network.management(0)]),
    )


def _publish(made: Path, manifest: Manifest, catalogue: Catalogue) -> None:
    """Put the disk in its place, then the manifest, which makes it an image."""
    target = catalogue.disk(manifest.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    run(["sync", made])
    made.chmod(0o400)
    made.replace(target)
    catalogue.add(manifest)


def _base_info(base: Base) -> BaseInfo:
    return BaseInfo(
        name=base.name,
        requested=base.requested,
        digest=base.digest,
        source=base.source,
        fallback=base.fallback,
    )
