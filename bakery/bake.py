"""Baking: from a base, container images and our files to a bootable disk with a manifest."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bakery import disk, machine, network, packer, pool, ssh
from bakery.bases import Base, resolve_base
from bakery.containers import ContainerImage, resolve_containers
from bakery.drivers.base import Driver, MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, timings
from bakery.manifest import BaseInfo, Catalogue, ContainerInfo, Manifest
from bakery.render import PROJECT, render
from bakery.run import run
from bakery.settings import Settings
from bakery.state import write_atomically
from bakery.targets.base import SshAccess

# Raised when the same inputs are to give another image.
_SCHEMA = 1
_DECIDES = ("packer/provision", "packer/files", "packer/template.pkr.hcl.j2", "compose")
_STAMP = re.compile(r"^(\S+) (==>|    ) \S+: Provisioning with shell script: \S*/(\S+)\.sh")


def bake(settings: Settings, *, force: bool = False, keep: bool = False) -> Manifest:
    """Return the image that the settings and the project's files make, baked unless it is there.

    `force` bakes anew; `keep` leaves the machine of a failed bake running, to look inside.

    Raises:
        InputError: This host cannot bake.
        BakeryError: A step failed; nothing is left running (unless `keep`).
    """
    Nspawn().check()
    state = settings.state_dir.absolute()
    with pool.opened(state) as disks:
        catalogue = Catalogue(state, disks)
        with step("Base"):
            base = resolve_base(settings.base, cache=disks)
        with step("Container images"):
            containers = _containers(settings)
        key = bake_key(base, containers, settings.disk_gib)
        found = catalogue.by_key(key)
        if found and not force:
            note(f"nothing to bake: {found.id} is what these inputs make")
            return found
        return _bake(settings, base, containers, key, catalogue, keep=keep)


def _bake(
    settings: Settings,
    base: Base,
    containers: list[ContainerImage],
    key: str,
    catalogue: Catalogue,
    *,
    keep: bool,
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
                packer.build(recipe, log)
            with step("Shut down"):
                driver.stop(spec)
        with step("Publish"):
            manifest = Manifest(
                id=image,
                bake_key=key,
                base=_base_info(base),
                containers=[_container_info(one) for one in containers],
                packages=json.loads(recipe.packages.read_text(encoding="utf-8")),
                disk_size=spec.disk.stat().st_size,
                disk_used=spec.disk.stat().st_blocks * 512,
                timings=[*timings(first), *provision_timings(log)],
            )
            _publish(spec.disk, manifest, catalogue)
    note(f"baked {image}")
    return manifest


def bake_key(base: Base, containers: list[ContainerImage], disk_gib: int) -> str:
    """Return the hash of all that decides what an image contains."""
    digest = hashlib.sha256()
    inputs = {
        "schema": _SCHEMA,
        "target": "local",
        "base": base.digest,
        "disk_gib": disk_gib,
        "containers": {one.name: [one.reference, one.image_id] for one in containers},
        "files": {name: value for root in _DECIDES for name, value in _tree(PROJECT / root)},
    }
    digest.update(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def render_only(settings: Settings, folder: Path) -> None:
    """Write every file that a bake would hand to Packer, and end.

    Raises:
        InputError: The folder holds something that is not from here; nothing was changed.
    """
    folder = folder.absolute()
    mark = folder / "build-user-data.yaml"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise InputError(f"{folder} is not empty", hint="name a folder that is not there yet")
    base = settings.base or "ubuntu-20.04"
    access = _build_access(folder, "192.0.2.2")
    ssh.make_key(access.key)
    inputs = packer.Inputs(base=base, archives={}, images_json="{}\n", ssh=access)
    _packer, version = packer.find_packer()
    packer.write_recipe(folder / "packer", inputs, version)
    public = "ssh-ed25519 KEY mlflow-bakery"
    text = render("cloud-init/build-user-data.yaml.j2", public_key=public)
    write_atomically(mark, text, mode=0o644)


def provision_timings(log: Path) -> list[tuple[str, float]]:
    """Return how long each provisioning script took, in seconds, read from Packer's log."""
    stamps: list[tuple[str, datetime]] = []
    last = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        moment = _moment(line)
        last = moment or last
        found = _STAMP.match(line)
        if found and moment:
            stamps.append((found.group(3), moment))
    ends = [moment for _, moment in stamps[1:]] + [last] * bool(stamps)
    return [
        (f"provision {name}", (end - begun).total_seconds())
        for (name, begun), end in zip(stamps, ends, strict=True)
        if end
    ]


def _moment(line: str) -> datetime | None:
    try:
        return datetime.fromisoformat(line.partition(" ")[0].rstrip(":"))
    except ValueError:
        return None


def _containers(settings: Settings) -> list[ContainerImage]:
    return resolve_containers(
        settings.container_source,
        cache=settings.state_dir.absolute() / "cache",
        registry=settings.registry,
        tls_verify=settings.registry_tls_verify,
    )


@dataclass(frozen=True)
class Place:
    """Where a bake works: its folder and its network."""

    folder: Path
    network: network.Network

    @property
    def access(self) -> SshAccess:
        """How to log in to the bake's machine."""
        return _build_access(self.folder, self.network.management(0))


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
            if not (failed and keep):
                network.take_down(name)
                shutil.rmtree(folder, ignore_errors=True)


def _spec(state: Path, folder: Path, name: str) -> MachineSpec:
    return MachineSpec(
        name=name, disk=state / "pool" / "bake.raw", folder=folder / "machine", bridge=name
    )


def _write_recipe(place: Place, base: Base, containers: list[ContainerImage]) -> packer.Recipe:
    entries = {
        one.name: {"reference": one.reference, "image_id": one.image_id, "version": one.version}
        for one in containers
    }
    inputs = packer.Inputs(
        base=base.name,
        archives={one.name: one.archive for one in containers},
        images_json=json.dumps(entries, indent=2, sort_keys=True) + "\n",
        ssh=place.access,
    )
    _packer, version = packer.find_packer()
    recipe = packer.write_recipe(place.folder / "packer", inputs, version)
    packer.validate(recipe)
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
        if failed and keep:
            note(f"kept, as asked: ssh {' '.join(access.options)} {access.user}@{access.host}")
        elif failed:
            driver.stop(spec, seconds=10)
            spec.disk.unlink(missing_ok=True)


def _build_access(folder: Path, host: str) -> SshAccess:
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


def _tree(root: Path) -> Iterator[tuple[str, str]]:
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            mode = "x" if os.access(path, os.X_OK) else "-"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield str(path.relative_to(PROJECT)), f"{mode}{digest}"


def _base_info(base: Base) -> BaseInfo:
    return BaseInfo(
        name=base.name,
        requested=base.requested,
        digest=base.digest,
        source=base.source,
        fallback=base.fallback,
    )


def _container_info(one: ContainerImage) -> ContainerInfo:
    return ContainerInfo(
        name=one.name,
        reference=one.reference,
        image_id=one.image_id,
        version=one.version,
        source=one.source,
        size=one.archive.stat().st_size,
    )
