"""Packer: which one, the recipe rendered for it, running it."""

import io
import os
import re
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from bakery.errors import InputError
from bakery.render import PROJECT, render
from bakery.run import run
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
class Recipe:
    """A rendered build folder and what was uploaded from it."""

    folder: Path
    packages: Path
    """Where Packer downloads the list of installed packages to."""


@dataclass(frozen=True)
class Inputs:
    """What a recipe is rendered from."""

    base: str
    archives: dict[str, Path]
    """What `docker load` reads, by the name of the container image."""
    images_json: str
    ssh: SshAccess
    source: str = "null"
    target: str = "local"
    qemu: Qemu | None = field(default=None)


def find_packer() -> tuple[str, tuple[int, ...]]:
    """Return HashiCorp's Packer and its version; cracklib has a program of the same name.

    Raises:
        InputError: There is none.
    """
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = shutil.which("packer", path=folder)
        if candidate is None:
            continue
        found = re.match(r"Packer v(\d+)\.(\d+)\.(\d+)", _packer(candidate, "version"))
        if found:
            return candidate, tuple(int(number) for number in found.groups())
    raise InputError("packer is missing: it bakes the image", hint="apt-get install packer")


def write_recipe(folder: Path, inputs: Inputs, version: tuple[int, ...]) -> Recipe:
    """Render everything that Packer reads into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "files.tar").write_bytes(machine_files())
    (folder / "images.json").write_text(inputs.images_json, encoding="utf-8")
    scripts = sorted(PROVISION.glob("[0-9]*.sh"))
    packages = folder / "packages.json"
    uploads = [(folder / "files.tar", "files.tar"), (folder / "images.json", "images.json")]
    uploads += [(path, f"containers/{name}.tar") for name, path in inputs.archives.items()]
    text = render(
        "packer/template.pkr.hcl.j2",
        source=inputs.source,
        ssh=inputs.ssh,
        qemu=inputs.qemu,
        remote=REMOTE,
        uploads=[{"source": str(src), "destination": f"{REMOTE}/{to}"} for src, to in uploads],
        environment=[
            f"BAKE_BASE={inputs.base}",
            f"BAKE_TARGET={inputs.target}",
            f"BAKE_DIR={REMOTE}",
        ],
        scripts=[str(path) for path in scripts if path.name != _LAST],
        last_scripts=[str(PROVISION / _LAST)],
        packages=str(packages),
    )
    template = folder / "template.pkr.hcl"
    template.write_text(text, encoding="utf-8")
    if version >= (1, 7):
        shutil.copy(PROJECT / "packer" / "plugins.pkr.hcl", folder)
    run([find_packer()[0], "fmt", folder], env=_environment(folder))
    return Recipe(folder=folder, packages=packages)


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


def validate(recipe: Recipe) -> None:
    """Let Packer check the rendered recipe in full.

    Raises:
        BakeryError: It refuses the recipe.
    """
    packer, version = find_packer()
    if version >= (1, 7):
        run([packer, "init", recipe.folder], env=_environment(recipe.folder))
    run([packer, "validate", recipe.folder], env=_environment(recipe.folder))


def build(recipe: Recipe, log: Path) -> None:
    """Run the provisioning in the machine; all of Packer's output goes to `log`.

    Raises:
        BakeryError: A step of it failed; the tail of the log is shown.
    """
    packer, _version = find_packer()
    words: list[str | Path]
    words = [packer, "build", "-color=false", "-timestamp-ui", "-on-error=cleanup", recipe.folder]
    run(words, env=_environment(recipe.folder), log=log, hint="the end of the bake's log is shown")


def _files(tree: Path) -> list[Path]:
    return sorted(
        path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )


def _packer(packer: str, *words: str) -> str:
    return run([packer, *words], check=False, env={"CHECKPOINT_DISABLE": "1"}, timeout=30).stdout


def _environment(folder: Path) -> dict[str, str]:
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": str(folder / "cache"),
        "PACKER_PLUGIN_PATH": str(folder.parent / "packer-plugins"),
    }
