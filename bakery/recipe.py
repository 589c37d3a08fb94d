"""The recipe of a bake: what Packer reads, and the key of all that decides the image."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bakery import packer
from bakery.containers import ContainerImage
from bakery.manifest import ContainerInfo
from bakery.render import PROJECT, render
from bakery.targets.base import SshAccess

PROVISION = PROJECT / "packer" / "provision"
REMOTE = "/var/tmp/bake"  # noqa: S108 - in the machine that is baked; /tmp may be a tmpfs
_LAST = "90-hygiene.sh"
_EXECUTABLE, _PLAIN = 0o755, 0o644
# (folder in the project, folder in the image)
TREES = (
    (PROJECT / "packer" / "files", ""),
    (PROJECT / "compose", "usr/share/mlflow-bakery/compose"),
)
# Raised when the same inputs are to give another image.
_SCHEMA = 1
_DECIDES = ("packer/provision", "packer/files", "packer/template.pkr.hcl.j2", "compose")
Family = Literal["local", "azure"]


@dataclass(frozen=True)
class Qemu:
    """What the qemu source needs beside SSH; paths and words as Packer takes them."""

    base: str
    base_checksum: str
    seed: str
    output: str
    console: str
    accelerator: str = "tcg"
    cpu: str = "max"
    disk_size: str = "16G"
    memory: int = 4096
    ssh_timeout: str = "20m"


@dataclass(frozen=True)
class AzureArm:
    """What the azure-arm source needs; nothing secret, that goes in by PKR_VAR_ variables."""

    auth: Literal["cli", "client-secret", "oidc", "managed-identity"]
    cloud: str
    metadata_host: str
    """Of a control plane that is none of the known clouds; empty for these."""
    subscription: str
    location: str
    temporary_group: str
    """The resource group that Packer makes for this bake and deletes with all in it."""
    tags: dict[str, str]
    allowed: list[str]
    """The addresses that may reach the machine over SSH while it is baked."""
    size: str
    disk_gib: int
    urn: tuple[str, str, str, str]
    """Publisher, offer, SKU and version of the Marketplace image."""
    resource_group: str
    gallery: str
    definition: str
    version: str


@dataclass(frozen=True)
class Recipe:
    """A rendered build folder and what comes back into it."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Where Packer downloads the list of installed packages to."""
        return self.folder / "packages.json"

    @property
    def schema(self) -> Path:
        """Where Packer downloads the revision of the database schema to."""
        return self.folder / "schema.json"

    @property
    def built(self) -> Path:
        """Where Packer says what it made."""
        return self.folder / "packer-manifest.json"


@dataclass(frozen=True)
class Inputs:
    """What a recipe is rendered from."""

    base: str
    archives: dict[str, Path]
    """What `docker load` reads, by the name of the container image."""
    images_json: str
    ssh: SshAccess | None = None
    """How to reach the machine; None where Packer makes it, with a key of its own."""
    source: Literal["null", "qemu", "azure-arm"] = "null"
    target: Family = "local"
    gpu: bool = False
    """Whether containers are to be able to use NVIDIA GPUs."""
    qemu: Qemu | None = field(default=None)
    azure: AzureArm | None = field(default=None)


def bake_key(
    base_digest: str,
    containers: list[ContainerImage],
    disk_gib: int,
    family: Family = "local",
    *,
    gpu: bool = False,
) -> str:
    """Return the hash of all that decides what an image contains."""
    inputs = {
        **({"gpu": True} if gpu else {}),
        "schema": _SCHEMA,
        "target": family,
        "base": base_digest,
        "disk_gib": disk_gib,
        "containers": {one.name: [one.reference, one.image_id] for one in containers},
        "files": {name: value for root in _DECIDES for name, value in _tree(PROJECT / root)},
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def container_info(one: ContainerImage) -> ContainerInfo:
    """Return what a manifest says of a container image."""
    return ContainerInfo(
        name=one.name,
        reference=one.reference,
        image_id=one.image_id,
        version=one.version,
        source=one.source,
        size=one.archive.stat().st_size,
    )


def images_json(containers: list[ContainerImage]) -> str:
    """Return the list that the machine proves its container images with."""
    entries = {
        one.name: {"reference": one.reference, "image_id": one.image_id, "version": one.version}
        for one in containers
    }
    return json.dumps(entries, indent=2, sort_keys=True) + "\n"


def write_recipe(folder: Path, inputs: Inputs, version: packer.Version) -> Recipe:
    """Render everything that Packer reads into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = Recipe(folder)
    (folder / "files.tar").write_bytes(machine_files())
    (folder / "images.json").write_text(inputs.images_json, encoding="utf-8")
    (folder / "template.pkr.hcl").write_text(_template(recipe, inputs), encoding="utf-8")
    if version >= (1, 7):
        shutil.copy(PROJECT / "packer" / "plugins.pkr.hcl", folder)
    packer.format_recipe(folder)
    return recipe


def _template(recipe: Recipe, inputs: Inputs) -> str:
    folder = recipe.folder
    scripts = sorted(PROVISION.glob("[0-9]*.sh"))
    uploads = [(folder / "files.tar", "files.tar"), (folder / "images.json", "images.json")]
    uploads += [(path, f"containers/{name}.tar") for name, path in inputs.archives.items()]
    return render(
        "packer/template.pkr.hcl.j2",
        source=inputs.source,
        ssh=inputs.ssh,
        qemu=inputs.qemu,
        azure=inputs.azure,
        remote=REMOTE,
        uploads=[{"source": str(src), "destination": f"{REMOTE}/{to}"} for src, to in uploads],
        environment=[
            f"BAKE_BASE={inputs.base}",
            f"BAKE_TARGET={inputs.target}",
            f"BAKE_DIR={REMOTE}",
            *(["BAKE_GPU=yes"] if inputs.gpu else []),
        ],
        scripts=[str(path) for path in scripts if path.name != _LAST],
        last_scripts=[str(PROVISION / _LAST)],
        packages=str(recipe.packages),
        schema=str(recipe.schema),
        built=str(recipe.built),
    )


def machine_files() -> bytes:
    """Return a tar of what goes into the image as it stands in the project, always the same."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for tree, prefix in TREES:
            for path in _files(tree):
                info = tarfile.TarInfo(str(Path(prefix) / path.relative_to(tree)))
                data = path.read_bytes()
                info.size = len(data)
                info.mode = _EXECUTABLE if os.access(path, os.X_OK) else _PLAIN
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _files(tree: Path) -> list[Path]:
    return sorted(
        path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )


def _tree(root: Path) -> Iterator[tuple[str, str]]:
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            mode = "x" if os.access(path, os.X_OK) else "-"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield str(path.relative_to(PROJECT)), f"{mode}{digest}"
