"""What has been baked, what is deployed, what differs; and what of it nobody needs any more."""

from bakery import difference, images_local
from bakery.azure import images as images_azure
from bakery.errors import BakeryError, InputError
from bakery.log import note, step
from bakery.settings import Settings
from bakery.shelf import Doomed, Image, Shelf


def images(settings: Settings) -> list[Image]:
    """Return every image of the target, oldest first.

    Each says how it differs from the newest that is deployed.
    """
    found = _shelf(settings).images()
    deployed = [one for one in found if one.deployed and one.manifest]
    # What a training machine is of says nothing of the server.
    serving = [one.manifest for one in deployed if not one.gpu] or [
        one.manifest for one in deployed
    ]
    newest = serving[-1] if serving else None
    if newest is None:
        return found
    return [
        one if one.manifest is None or one.manifest.id == newest.id
        else one.differing(difference.difference(newest, one.manifest).line)
        for one in found
    ]  # fmt: skip


def prune(settings: Settings, *, keep: int, do: bool) -> list[Doomed]:
    """Return what nobody needs any more, after deleting it (when `do`).

    Images that are deployed or kept for a rollback stay, and the `keep` newest good ones; nothing
    is deleted that does not say that it is ours.

    Raises:
        InputError: `keep` is less than one.
        BakeryError: Something could not be deleted; the rest was.
    """
    if keep < 1:
        raise InputError(f"--keep {keep}: the newest image always stays", hint="--keep 1 or more")
    shelf = _shelf(settings)
    doomed = [*_doomed(shelf.images(), keep), *shelf.leftovers()]
    if not do:
        return doomed
    failed = [one for one in doomed if not _deleted(shelf, one)]
    if failed:
        names = ", ".join(one.name for one in failed)
        raise BakeryError(f"not deleted: {names}", hint="run it again; the rest is deleted")
    return doomed


def _doomed(found: list[Image], keep: int) -> list[Doomed]:
    good = [one for one in found if one.state == "good"]
    # Of each kind: a server's image is no replacement for a training machine's.
    kinds = [[one.id for one in good if one.gpu == gpu] for gpu in (False, True)]
    kept = {one for kind in kinds for one in kind[-keep:]}
    return [
        Doomed("image", one.id, one.why or f"older than the newest {keep}", one.size)
        for one in found
        if one.id not in kept and not one.in_use and (one.state == "good" or one.why)
    ]


def _deleted(shelf: Shelf, doomed: Doomed) -> bool:
    try:
        with step(f"Delete {doomed.kind} {doomed.name}"):
            shelf.delete(doomed)
    except BakeryError as failed:
        note(str(failed))
        return False
    return True


def _shelf(settings: Settings) -> Shelf:
    if settings.target == "azure":
        return images_azure.AzureShelf(settings)
    return images_local.LocalShelf(settings)
