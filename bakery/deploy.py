"""Deploying: from an image to a server that answers over HTTPS, and what one does with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bakery import backup, environment, rotate, signals, targets, training
from bakery import replace as replacement
from bakery import resize as resizing
from bakery import rollback as rolling_back
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, warn
from bakery.manifest import Manifest
from bakery.settings import Settings
from bakery.state import Generation
from bakery.targets.base import BlobAccess, Server, Target


def deploy(
    settings: Settings,
    *,
    image: str | None = None,
    replace: bool = False,
    new_data_disk: bool = False,
) -> Server:
    """Make the deployment serve from an image: the newest, or the one named.

    Nothing to do when it already serves from that image with these settings (unless `replace`).
    With `new_data_disk` it begins with an empty one in the place of one that is gone.

    Raises:
        InputError: Something given or missing makes it impossible; nothing was made.
        BakeryError: A step failed; what served before serves again.
    """
    targets.check_image(settings, image)
    with targets.opened(settings, new=True) as target:
        chosen = target.choose_image(image)
        if new_data_disk:
            target.give_up_data_disk()
        target.check()
        target.settle()
        with _nothing_half_made(target):
            _lay_foundations(target)
            _grow(target)
            replacement.recover(target)
            if _is_up_to_date(target, chosen) and not replace:
                _start_again(target)
            else:
                replacement.check_image(target, chosen)
                backup.before_migration(target, chosen)
                replacement.replace(target, chosen)
        return target.server()


@contextmanager
def _nothing_half_made(target: Target) -> Iterator[None]:
    """Leave nothing running of a first deploy that fails; data and secrets stay for the next."""
    try:
        yield
    except BaseException:
        with signals.held_back():
            if target.deployment.generation is None:
                for failure in target.destroy(with_data=False):
                    warn(f"left behind: {failure}")
        raise


def start(settings: Settings) -> Server:
    """Serve again after `stop` or a reboot of the host.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    with targets.opened(settings) as target:
        _generations(target)
        target.check()
        _lay_foundations(target)
        replacement.recover(target)
        if not _start_again(target):
            # Who serves already may not know of everything that was changed since.
            rotate.apply(target, serving(target))
        training.start(target)
        return target.server()


def stop(settings: Settings) -> None:
    """Shut the machines down; everything stays for `start`."""
    with targets.opened(settings) as target:
        training.stop(target)
        for one in _generations(target):
            if target.running(one):
                with step(f"Stop generation {one.number}"):
                    target.retire(one)


def destroy(settings: Settings, *, with_data: bool) -> None:
    """Remove machines and network; data disk, blobs and secrets only `with_data`.

    Raises:
        BakeryError: Something could not be removed; says what.
    """
    if not targets.exists(settings):
        note(f"nothing to destroy: no deployment is called {settings.name}")
        return
    with targets.opened(settings) as target:
        with step("Destroy"):
            failures = target.destroy(with_data=with_data)
        if failures:
            raise BakeryError(
                f"not everything could be removed: {'; '.join(failures)}", hint="run it again"
            )


def storage(settings: Settings) -> BlobAccess:
    """Make the artifact store alone: account, key and container.

    Raises:
        InputError: Something given or missing makes it impossible; nothing was made.
    """
    with targets.opened(settings, new=True) as target:
        target.check()
        target.settle()
        with step("Artifact store"):
            target.make_storage()
        return target.blob


def rollback(settings: Settings, *, discard_newer: bool = False) -> Server:
    """Serve from the kept generation again, with the data as they are now.

    One that cannot read them gets those that it left, if `discard_newer`.

    Raises:
        InputError: There is none, or it cannot read the data; nothing was touched.
        BakeryError: It did not become ready; what served before serves again.
    """
    with targets.opened(settings) as target:
        target.server()
        target.check()
        _lay_foundations(target)
        replacement.recover(target)
        rolling_back.roll_back(target, discard_newer=discard_newer)
        return target.server()


def resize(settings: Settings, gib: int) -> None:
    """Make the data disk of what serves so large; nothing to do when it is.

    Raises:
        InputError: It would become smaller, nothing is deployed, or it is stopped.
        BakeryError: The server did not take it; what is on the disk is as it was.
    """
    with targets.opened(settings) as target:
        resizing.resize(target, serving(target), gib)
    if settings.data_disk_gib != gib:
        note(f"data_disk_gib = {gib} in bakery.toml says so to the next deploy, too")


def serving(target: Target) -> Generation:
    """Return the generation that serves, after what was cut off was brought to its end.

    Raises:
        InputError: Nothing is deployed, or it is stopped.
    """
    if target.deployment.pending:
        target.check()
        _lay_foundations(target)
        replacement.recover(target)
    target.server()
    current = target.deployment.generation
    if current is None or not target.running(current):
        raise InputError(f"{target.deployment.name} is stopped", hint="./inv start")
    return current


def _generations(target: Target) -> list[Generation]:
    """Return the generation that counts and the one that was about to, each if there is one.

    Raises:
        InputError: There is neither.
    """
    deployment = target.deployment
    pending = deployment.pending and deployment.pending.generation
    found = [one for one in (deployment.generation, pending) if one]
    if not found:
        target.server()
    return found


def _lay_foundations(target: Target) -> None:
    """Make what outlives a generation, or see that it is there."""
    for title, make in target.foundations():
        with step(title):
            make()


def _is_up_to_date(target: Target, image: Manifest) -> bool:
    """Return whether the generation that counts is of this image and these settings."""
    current, deployment = target.deployment.generation, target.deployment
    return (
        current is not None
        and current.image == image.id
        and current.number in {one.number for one in target.generations()}
        and deployment.environment_digest == environment.digest(target.environment())
    )


def _grow(target: Target) -> None:
    """Let the data disk follow its setting, if there is one."""
    if "data_disk_gib" not in target.settings.model_fields_set:
        return
    gib, current = target.settings.data_disk_gib, target.deployment.generation
    if current and target.running(current) and target.deployment.pending is None:
        resizing.resize(target, current, gib)
    else:
        target.grow_data_disk(gib)


def _start_again(target: Target) -> bool:
    """Serve again, unless it does; return whether it had to."""
    current = target.deployment.generation
    if current is None:
        return False
    if replacement.serves(target, current) and target.whole(current):
        note(f"nothing to do: generation {current.number} serves {current.image}")
        return False
    replacement.serve(target, current)
    return True
