"""The three container images of a server: MySQL, Traefik and MLflow, ready for `docker load`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bakery.containers import packages
from bakery.containers.archive import Image, read_archive, write_archive
from bakery.containers.registry import Registry
from bakery.containers.wheels import (
    check_version,
    locked_version,
    mlflow_image,
    requirements,
)
from bakery.errors import InputError
from bakery.log import note, step
from bakery.pins import LOCK, Lock, read_lock
from bakery.store import build, digest, file_digest

Source = Literal["auto", "registry", "packages"]
# Raised when the same inputs are to give other images.
_SCHEMA = 3


@dataclass(frozen=True)
class ContainerImage:
    """A container image in the cache."""

    name: str
    """mysql, traefik or mlflow."""
    reference: str
    """Such as mlflow-bakery/mysql:9.7.4; the archive loads under this name."""
    image_id: str
    """The digest of the image's configuration."""
    version: str
    source: str
    """"packages", or "registry" and the address with its digest."""
    archive: Path
    """A docker-save archive."""


@dataclass(frozen=True)
class _Maker:
    """What makes the images from one source, and the digests of what decides them."""

    source: Literal["registry", "packages"]
    lock: Lock
    cache: Path
    registry: Registry
    mlflow_lock: Path | None

    def all(self) -> list[ContainerImage]:
        """Return the three images, from the cache or newly made."""
        mysql, traefik, python = (self._upstream(name) for name in ("mysql", "traefik", "python"))
        return [mysql, traefik, self._mlflow(python)]

    def _upstream(self, name: str) -> ContainerImage:
        if self.source == "packages":
            key = packages.key(name, self.lock)
            log = self.cache / "containers" / f"{name}.log"
            return self._entry(
                name,
                key,
                "packages",
                lambda work: packages.BUILDERS[name](self.lock, work, log),
            )
        pinned = self.lock.upstream(name)
        source = f"registry {self.registry.address(pinned)}"
        key = digest([_SCHEMA, source])
        return self._entry(name, key, source, lambda work: self._fetch(name, work))

    def _fetch(self, name: str, work: Path) -> tuple[Image, str]:
        pinned = self.lock.upstream(name)
        image = self.registry.fetch(pinned, work)
        return image, image_version(name, image, pinned.tag)

    def _mlflow(self, python: ContainerImage) -> ContainerImage:
        if self.mlflow_lock is None:
            check_version("mlflow", "mlflow", self.lock.mlflow)
        wheels = self.mlflow_lock or requirements("mlflow")
        version = locked_version(wheels, "mlflow")
        key = digest([_SCHEMA, python.image_id, version, self.lock.python, file_digest(wheels)])

        def make(work: Path) -> tuple[Image, str]:
            base, pinned = read_archive(python.archive, work / "base"), self.lock.python
            return mlflow_image(base, work, wheels=wheels, python=pinned, version=version), version

        return self._entry("mlflow", key, python.source, make)

    def _entry(
        self, name: str, key: str, source: str, make: Callable[[Path], tuple[Image, str]]
    ) -> ContainerImage:
        entry = self.cache / "containers" / f"{name}-{self.source}-{key[7:19]}"
        if not entry.is_dir():
            with step(f"Make the container image {name} from {source}"):
                build(entry, lambda part: _write(part, name, source, make))
        facts = json.loads((entry / "image.json").read_text(encoding="utf-8"))
        return ContainerImage(**facts, archive=entry / "image.tar")


def resolve_containers(
    source: Source,
    *,
    cache: Path,
    registry: str = "docker.io",
    tls_verify: bool = True,
    lock: Path = LOCK,
    mlflow_lock: Path | None = None,
) -> list[ContainerImage]:
    """Return the images of mysql, traefik and mlflow, from the cache or newly made.

    `mlflow_lock` are locked requirements of another MLflow than the project's.

    "auto" takes the registry if the lock knows its images and it answers within seconds, else
    packages; it says which once and keeps to it until the lock changes.

    Raises:
        InputError: The source cannot give what the lock names, or a tool is missing.
        BakeryError: An image could not be made.
    """
    pinned = read_lock(lock)
    place = Registry(registry, tls_verify)
    chosen = _choose(pinned, place, cache) if source == "auto" else source
    if chosen == "registry" and pinned.unresolved:
        raise InputError(
            f"the lock has no digest of {', '.join(pinned.unresolved)}: it was never resolved",
            hint="./inv lock, where a registry can be reached; or source = packages",
        )
    return _Maker(chosen, pinned, cache, place, mlflow_lock).all()


def image_version(name: str, image: Image, tag: str) -> str:
    """Return the version that an image of a registry says it has, or else its tag."""
    settings = image.settings
    words = dict(word.partition("=")[::2] for word in settings.get("Env") or [])
    labels = settings.get("Labels") or {}
    said = words.get(f"{name.upper()}_VERSION") or labels.get("org.opencontainers.image.version")
    return (said or tag).removeprefix("v").partition("-")[0]


def _write(part: Path, name: str, source: str, make: Callable[[Path], tuple[Image, str]]) -> None:
    work = part / "work"
    work.mkdir()
    image, version = make(work)
    reference = f"mlflow-bakery/{name}:{version}"
    write_archive(part / "image.tar", image, reference)
    made = ContainerImage(name, reference, image.image_id, version, source, part / "image.tar")
    facts = {key: value for key, value in asdict(made).items() if key != "archive"}
    (part / "image.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(work)


def _choose(lock: Lock, registry: Registry, cache: Path) -> Literal["registry", "packages"]:
    remembered = cache / "containers" / "auto.json"
    question = digest([asdict(lock), registry.host])
    try:
        choice = json.loads(remembered.read_text(encoding="utf-8"))
    except FileNotFoundError:
        choice = {}
    if choice.get("question") != question:
        source, why = _ask(lock, registry)
        note(f"container images come from {source}: {why}")
        choice = {"question": question, "source": source, "why": why}
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps(choice, indent=1) + "\n", encoding="utf-8")
    return "registry" if choice["source"] == "registry" else "packages"


def _ask(lock: Lock, registry: Registry) -> tuple[str, str]:
    if lock.unresolved:
        return "packages", "the lock has no digests of registry images (never resolved)"
    try:
        registry.check(lock.upstream("python"))
    except InputError as refused:
        return "packages", str(refused)
    return "registry", f"{registry.host} answers"
