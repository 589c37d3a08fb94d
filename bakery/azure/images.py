"""The images of the gallery, and what of it nobody needs any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bakery.azure import leftovers
from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.gallery import GOOD, REJECTED, Gallery, GalleryImage
from bakery.azure.manifests import known_manifest
from bakery.azure.names import DEPLOYMENT_TAG, GENERATION_TAG, ROLE_TAG
from bakery.errors import BakeryError
from bakery.manifest import Manifest
from bakery.settings import Settings
from bakery.shelf import Doomed, Image

_OLD = timedelta(days=1)


@dataclass(frozen=True)
class _User:
    """A machine, anybody's, that was made from a gallery image."""

    image: str
    """The full id, lower-cased."""
    name: str
    generation: int


class AzureShelf:
    """Versions in the gallery."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)
        self._gallery = Gallery(settings, self._clients)

    def images(self) -> list[Image]:
        """Return every version of ours, oldest first, with the machines made from it."""
        found = self._gallery.images()
        # Not asked of a fresh subscription, which knows no machines yet.
        users = list(self._users()) if found else []
        return [self._image(one, users) for one in found]

    def leftovers(self) -> list[Doomed]:
        """Return temporary resource groups that no bake can still be using."""
        found = leftovers.leftovers(self._clients)
        return [
            Doomed("resource group", one.name, f"temporary, of {one.made:%Y-%m-%d %H:%M} UTC")
            for one in found
            if one.old
        ]

    def delete(self, doomed: Doomed) -> None:
        """Delete a version or a temporary group.

        Raises:
            BakeryError: A machine was made from it meanwhile, or Azure refuses.
        """
        if doomed.kind == "resource group":
            leftovers.remove(self._clients, doomed.name)
            return
        image = next((one for one in self._gallery.images() if one.image == doomed.name), None)
        if image is None:
            return
        if any(one.image == image.id.lower() for one in self._users()):
            raise BakeryError(f"{doomed.name} is in use by now", hint="it was left alone")
        self._gallery.delete(image)

    def _image(self, found: GalleryImage, users: list[_User]) -> Image:
        mine = [one for one in users if one.image == found.id.lower()]
        newest = self._newest(users)
        return Image(
            id=found.image,
            manifest=self._manifest(found),
            state=found.state if found.whole else "not whole",
            deployed=tuple(one.name for one in mine if newest[one.name] == one.generation),
            kept=tuple(one.name for one in mine if newest[one.name] != one.generation),
            why=_why(found),
            gpu=found.gpu,
        )

    def _manifest(self, found: GalleryImage) -> Manifest | None:
        if found.manifest is None:
            return None
        return known_manifest(self._settings, found, self._clients)

    def _newest(self, users: list[_User]) -> dict[str, int]:
        """Return the newest generation of each deployment; older ones are kept for a rollback."""
        found: dict[str, int] = {}
        for one in users:
            found[one.name] = max(one.generation, found.get(one.name, 0))
        return found

    @explained("the machines of the subscription")
    def _users_listed(self) -> list[_User]:
        return list(self._machines())

    def _users(self) -> Iterator[_User]:
        yield from self._users_listed()

    def _machines(self) -> Iterator[_User]:
        for machine in self._clients.compute.virtual_machines.list_all():
            profile = machine.properties and machine.properties.storage_profile
            reference = profile and profile.image_reference
            if reference and reference.id:
                tags = machine.tags or {}
                number = tags.get(GENERATION_TAG, "0")
                name = tags.get(DEPLOYMENT_TAG) or str(machine.name)
                if tags.get(ROLE_TAG):
                    name += f" ({tags[ROLE_TAG]})"
                yield _User(reference.id.lower(), name, int(number) if number.isdigit() else 0)


def _why(found: GalleryImage) -> str:
    """Return why nobody needs an image; empty for a good one and for one that is being baked."""
    if found.state == REJECTED:
        return "it did not pass its test"
    if found.state == GOOD and found.whole:
        return ""
    made = datetime.strptime(found.image[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    if datetime.now(UTC) - made < _OLD:
        return ""
    return "it was never tested" if found.whole else "it is not whole"
