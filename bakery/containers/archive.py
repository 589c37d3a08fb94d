"""Container images as docker-save archives: the same bytes whenever the same is put in."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakery.debian import EPOCH
from bakery.errors import BakeryError
from bakery.run import run
from bakery.store import file_digest

_CREATED = "2026-01-01T00:00:00Z"
# What a container engine or a running system provides, and what differs in each installation.
_LEFT_OUT = (
    "./dev/*", "./proc/*", "./sys/*", "./run/*", "./tmp/*",
    "./etc/hostname", "./etc/hosts", "./etc/resolv.conf", "./etc/machine-id", "./etc/*-",
    "./etc/apt/sources.list", "./var/cache/*/*", "./var/lib/apt/*/*", "./var/lib/dpkg/*-old",
    "./var/log/*",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A container image in pieces: its configuration and its layers, uncompressed."""

    config: bytes
    layers: tuple[Path, ...]

    @property
    def image_id(self) -> str:
        """The digest of the configuration, by which `docker load` knows the image."""
        return "sha256:" + hashlib.sha256(self.config).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What the configuration says about running it: Env, Labels, Entrypoint."""
        found: dict[str, Any] = json.loads(self.config).get("config") or {}
        return found


def pack_layer(tree: Path, layer: Path) -> None:
    """Write the files of a directory as a layer, without what an engine provides."""
    run(
        [
            *("tar", "--create", f"--file={layer}", f"--directory={tree}"),
            *("--sort=name", "--format=gnu", "--numeric-owner", f"--mtime=@{EPOCH}"),
            *("--anchored", "--wildcards", *(f"--exclude={pattern}" for pattern in _LEFT_OUT)),
            ".",
        ]
    )


def unpack_layers(image: Image, tree: Path) -> None:
    """Unpack an image's layers into a directory, to run its programs from there.

    Files that a later layer removes stay: it is a place to work in, not the image.
    """
    tree.mkdir(exist_ok=True)
    for layer in image.layers:
        run(["tar", "--extract", f"--file={layer}", f"--directory={tree}", "--numeric-owner"])


def new_image(
    layers: Sequence[Path],
    *,
    entrypoint: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    user: str = "",
) -> Image:
    """Describe an image of layers that were packed here."""
    config = {
        "Entrypoint": list(entrypoint),
        "Env": [f"{name}={value}" for name, value in (environment or {}).items()],
        "Labels": dict(labels or {}),
        "User": user,
    }
    return _image({"config": config}, layers, 0)


def extend(
    image: Image,
    layer: Path,
    *,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    user: str,
) -> Image:
    """Describe an image that adds a layer and environment variables to another one."""
    document = json.loads(image.config)
    config = dict(document.get("config") or {})
    kept = [word for word in config.get("Env") or [] if word.partition("=")[0] not in environment]
    config["Env"] = kept + [f"{name}={value}" for name, value in environment.items()]
    # The base's own start-up is an interactive Python.
    config.update({"User": user, "Entrypoint": [], "Cmd": None, "Labels": dict(labels)})
    history = document.get("history", [])
    return _image(
        {**document, "config": config, "history": history},
        [*image.layers, layer],
        len(image.layers),
        known=document["rootfs"]["diff_ids"],
    )


def write_archive(archive: Path, image: Image, reference: str) -> None:
    """Write an image as a docker-save archive that loads under the given reference."""
    config_name = f"{image.image_id.removeprefix('sha256:')}.json"
    diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
    names = [f"{diff_id.removeprefix('sha256:')}/layer.tar" for diff_id in diff_ids]
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": names}]
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, config_name, image.config)
        for name, layer in dict(zip(names, image.layers, strict=True)).items():
            member = _member(name, layer.stat().st_size)
            with layer.open("rb") as file:
                tar.addfile(member, file)
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def read_archive(archive: Path, work: Path) -> Image:
    """Take a docker-save archive apart; its layers become files in the directory `work`.

    Raises:
        BakeryError: It is no such archive, or its layers are not those of its configuration.
    """
    work.mkdir(exist_ok=True)
    layers: list[Path] = []
    try:
        with tarfile.open(archive) as tar:
            manifest = json.loads(_read(tar, "manifest.json"))[0]
            config = _read(tar, manifest["Config"])
            for number, name in enumerate(manifest["Layers"]):
                layers.append(work / f"{number}.tar")
                _copy(tar, name, layers[-1])
        expected = json.loads(config)["rootfs"]["diff_ids"]
    except (tarfile.TarError, KeyError, ValueError) as wrong:
        raise BakeryError(f"{archive.name} is no container image archive: {wrong}") from wrong
    if [file_digest(layer) for layer in layers] != expected:
        raise BakeryError(f"the layers in {archive.name} are not those that its config names")
    return Image(config, tuple(layers))


def _image(
    document: dict[str, Any], layers: Sequence[Path], base: int, *, known: Sequence[str] = ()
) -> Image:
    diff_ids = [*known, *(file_digest(layer) for layer in layers[base:])]
    ours = [
        {"created": _CREATED, "created_by": "mlflow-bakery", "empty_layer": False}
        for _ in layers[base:]
    ]
    full = {
        **document,
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*document.get("history", []), *ours],
    }
    text = json.dumps(full, sort_keys=True, separators=(",", ":"))
    return Image(text.encode(), tuple(layers))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, EPOCH, 0o644
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _copy(tar: tarfile.TarFile, name: str, target: Path) -> None:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    with target.open("wb") as out:
        while chunk := file.read(1 << 20):
            out.write(chunk)
