"""The lock: what the container images are made of, pinned."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "images"
LOCK = IMAGES / "lock.toml"


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
