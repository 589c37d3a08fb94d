"""The images of this host's state folder."""

import re
import shutil
import time
from collections.abc import Iterator

from bakery import pool
from bakery.errors import BakeryError
from bakery.manifest import Catalogue
from bakery.settings import Settings
from bakery.shelf import Doomed, Image
from bakery.state import Deployment, DeploymentFolder

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_OLD_SECONDS = 24 * 3600


class LocalShelf:
    """Images in the pool, with their manifests beside it."""

    def __init__(self, settings: Settings) -> None:
        self._state = settings.state_dir.absolute()

    def images(self) -> list[Image]:
        """Return every whole image, oldest first."""
        if not Catalogue(self._state, self._state / "pool").manifests():
            return []
        users = list(self._deployments())
        with pool.opened(self._state) as disks:
            found = Catalogue(self._state, disks).images()
        return [
            Image(
                id=one.id,
                manifest=one,
                state=one.state,
                why="it did not pass its test" if one.state == "rejected" else "",
                deployed=tuple(user.name for user in users if _serves(user) == one.id),
                kept=tuple(user.name for user in users if one.id in _needs(user)),
            )
            for one in found
        ]

    def leftovers(self) -> list[Doomed]:
        """Return disks without a manifest: a bake was killed between the two."""
        if not (self._state / "pool").exists():
            return []
        with pool.opened(self._state) as disks:
            catalogue = Catalogue(self._state, disks)
            known = {one.id for one in catalogue.manifests()}
            return [
                Doomed("disk", path.stem, "it has no manifest", path.stat().st_blocks * 512)
                for path in sorted(catalogue.disks.glob("*.raw"))
                if _ID.fullmatch(path.stem)
                and path.stem not in known
                and time.time() - path.stat().st_mtime > _OLD_SECONDS
            ]

    def delete(self, doomed: Doomed) -> None:
        """Delete an image: its disk first, for what has no disk is no image.

        Raises:
            BakeryError: A deployment has begun to use it.
        """
        users = list(self._deployments())
        if any(doomed.name in {_serves(user), *_needs(user)} for user in users):
            raise BakeryError(f"{doomed.name} is in use by now", hint="it was left alone")
        with pool.opened(self._state) as disks:
            catalogue = Catalogue(self._state, disks)
            catalogue.disk(doomed.name).unlink(missing_ok=True)
            shutil.rmtree(catalogue.manifest_file(doomed.name).parent, ignore_errors=True)

    def _deployments(self) -> Iterator[Deployment]:
        for path in sorted(self._state.glob("deployments/*")):
            found = DeploymentFolder(self._state, path.name).load()
            if found is not None:
                yield found


def _serves(user: Deployment) -> str:
    return user.generation.image if user.generation else ""


def _needs(user: Deployment) -> set[str]:
    pending = user.pending and user.pending.generation
    return {one.image for one in (user.previous, pending) if one}
