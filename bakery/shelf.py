"""A place where images lie, as `images` and `prune` see it."""

from dataclasses import dataclass, replace
from typing import Protocol

from bakery.manifest import Manifest


@dataclass(frozen=True)
class Image:
    """An image, and who needs it."""

    id: str
    manifest: Manifest | None
    state: str = "good"
    """good; on Azure also candidate, rejected or not whole."""
    deployed: tuple[str, ...] = ()
    """The deployments that serve from it."""
    kept: tuple[str, ...] = ()
    """Those that may still go back to it, or are on their way to it."""
    why: str = ""
    """Why nobody needs it, whatever its age; empty for a good one."""
    differs: str = ""
    gpu: bool = False
    """It is for training machines: NVIDIA's driver is in it."""

    @property
    def in_use(self) -> bool:
        """Whether it must stay."""
        return bool(self.deployed or self.kept)

    @property
    def size(self) -> int:
        """What it takes, in bytes; 0 where that is not known."""
        return self.manifest.disk_used if self.manifest else 0

    def differing(self, text: str) -> "Image":
        """Return it with what differs from the one that is deployed."""
        return replace(self, differs=text)


@dataclass(frozen=True)
class Doomed:
    """Something that nobody needs any more."""

    kind: str
    """image, disk or resource group."""
    name: str
    why: str
    size: int = 0


class Shelf(Protocol):
    """The images of one target."""

    def images(self) -> list[Image]:
        """Return all of them, oldest first."""

    def leftovers(self) -> list[Doomed]:
        """Return what else bakes have left, each surely ours and surely not in use."""

    def delete(self, doomed: Doomed) -> None:
        """Delete one of them; looks again whether it is ours and not in use.

        Raises:
            BakeryError: It is in use by now, or could not be deleted.
        """
