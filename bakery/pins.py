"""The lock file: what an image is made of, pinned."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "images"
LOCK = IMAGES / "lock.toml"
_HEAD = """\
# Every input of an image that is pinned. Written by `./inv lock`.
# What is empty was never resolved: it was out of reach where this was written.
schema = 1
"""
_MYSQL_NOTE = "# Of Debian unstable; it keeps only its newest MySQL, so no closer pin would last."


@dataclass(frozen=True)
class RegistryImage:
    """An image in a registry; `digest` is empty until it has been resolved."""

    name: str
    repository: str
    tag: str
    digest: str


@dataclass(frozen=True)
class UbuntuRelease:
    """A dated release of a cloud image; both are empty until they have been resolved."""

    release: str = ""
    """Such as 20250624, the date in its address."""
    sha256: str = ""


@dataclass(frozen=True)
class Lock:
    """What images/lock.toml pins."""

    mlflow: str
    python: str
    traefik: str
    mysql_series: str
    registry: tuple[RegistryImage, ...]
    ubuntu: tuple[tuple[str, UbuntuRelease], ...] = ()

    def ubuntu_release(self, base: str) -> UbuntuRelease:
        """Return what is pinned of a base, empty where that is nothing."""
        return dict(self.ubuntu).get(base, UbuntuRelease())

    def upstream(self, name: str) -> RegistryImage:
        """Return the registry image of that name."""
        return next(image for image in self.registry if image.name == name)

    @property
    def unresolved(self) -> list[str]:
        """The registry images whose digest is not known."""
        return [image.name for image in self.registry if not image.digest]


def read_lock(path: Path = LOCK) -> Lock:
    """Read the lock file."""
    with path.open("rb") as file:
        values = tomllib.load(file)
    return Lock(
        mlflow=values["mlflow"]["version"],
        python=values["mlflow"]["python"],
        traefik=values["traefik"]["version"],
        mysql_series=values["mysql"]["series"],
        registry=tuple(
            RegistryImage(name, entry["repository"], entry["tag"], entry["digest"])
            for name, entry in values["registry"].items()
        ),
        ubuntu=tuple(
            (name, UbuntuRelease(entry["release"], entry["sha256"]))
            for name, entry in values["ubuntu"].items()
        ),
    )


def write_lock(lock: Lock, path: Path = LOCK) -> None:
    """Write the lock file."""
    parts = [
        _HEAD,
        _table("mlflow", "", version=lock.mlflow, python=lock.python),
        _table("traefik", "", version=lock.traefik),
        _table("mysql", _MYSQL_NOTE, series=lock.mysql_series),
        *(
            _table(
                f"registry.{image.name}",
                "",
                repository=image.repository,
                tag=image.tag,
                digest=image.digest,
            )
            for image in lock.registry
        ),
        *(
            _table(f'ubuntu."{base}"', "", release=pinned.release, sha256=pinned.sha256)
            for base, pinned in lock.ubuntu
        ),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _table(name: str, comment: str, **values: str) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *([comment] if comment else []), *lines]) + "\n"
