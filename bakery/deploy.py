"""Deploying: from an image to a server that answers over HTTPS, and what one does with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bakery import checks
from bakery.errors import BakeryError
from bakery.log import note, step, warn
from bakery.manifest import Catalogue, Manifest
from bakery.settings import Settings
from bakery.state import DeploymentFolder, Generation
from bakery.targets.base import BlobAccess, Server
from bakery.targets.local import LocalTarget


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
    Catalogue(settings.state_dir.absolute(), settings.state_dir / "pool").recorded(image)
    with LocalTarget.opened(settings, new=True) as target:
        chosen = target.catalogue.choose(image)
        if new_data_disk:
            target.give_up_data_disk()
        target.check()
        target.settle()
        with _nothing_half_made(target):
            with step("Network"):
                target.bring_up_network()
            with step("Artifact store (Azurite)"):
                target.start_storage()
            target.make_data_disk()
            if target.up_to_date(chosen) and not replace:
                _start_again(target)
            else:
                _replace(target, chosen)
        return target.server()


@contextmanager
def _nothing_half_made(target: LocalTarget) -> Iterator[None]:
    """Leave nothing running of a first deploy that fails; data and secrets stay for the next."""
    try:
        yield
    except BaseException:
        if target.deployment.generation is None:
            for failure in target.destroy(with_data=False):
                warn(f"left behind: {failure}")
        raise


def start(settings: Settings) -> Server:
    """Serve again after `stop` or a reboot of the host.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    with LocalTarget.opened(settings) as target:
        target.server()
        target.check()
        with step("Network and artifact store"):
            target.bring_up_network()
            target.start_storage()
        _start_again(target)
        return target.server()


def stop(settings: Settings) -> None:
    """Shut the machine down; everything stays for `start`."""
    with LocalTarget.opened(settings) as target:
        current = target.deployment.generation
        if current is None:
            target.server()
        elif target.running():
            with step(f"Stop generation {current.number}"):
                target.stop(current)


def destroy(settings: Settings, *, with_data: bool) -> None:
    """Remove machines and network; data disk, blobs and secrets only `with_data`.

    Raises:
        BakeryError: Something could not be removed; says what.
    """
    if DeploymentFolder(settings.state_dir, settings.name).load() is None:
        note(f"nothing to destroy: no deployment is called {settings.name}")
        return
    with LocalTarget.opened(settings) as target:
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
    with LocalTarget.opened(settings, new=True) as target:
        target.check()
        target.settle()
        with step("Artifact store (Azurite)"):
            target.bring_up_network()
            target.start_storage()
        return target.blob


def _start_again(target: LocalTarget) -> None:
    current = target.deployment.generation
    if current is None:
        return
    if target.running():
        note(f"nothing to do: generation {current.number} serves {current.image}")
        return
    with step(f"Boot generation {current.number}"):
        target.boot(current)
    _wait_ready(target, current)


def _replace(target: LocalTarget, image: Manifest) -> None:
    """Serve from a new generation; one that does not become ready gives way to the old one."""
    before = target.deployment.generation
    generation = None
    try:
        if before and target.running():
            with step(f"Stop generation {before.number}"):
                target.stop(before)
        with step("Create the machine"):
            generation = target.create_machine(image)
        with step(f"Boot generation {generation.number}"):
            target.boot(generation)
        _wait_ready(target, generation)
    except BaseException:
        if before:
            _bring_back(target, before, generation)
        raise
    target.commit(generation)


def _bring_back(target: LocalTarget, before: Generation, failed: Generation | None) -> None:
    """Serve from the old generation again; if that fails too, the first failure is still told."""
    warn(f"generation {before.number} is started again")
    try:
        # Without a failed one, the old one may have been interrupted while it stopped.
        target.stop(failed or before)
        with step(f"Boot generation {before.number}"):
            target.boot(before)
    except BakeryError as error:
        warn(f"generation {before.number} does not start: {error}; ./inv start tries again")


def _wait_ready(target: LocalTarget, generation: Generation) -> None:
    with step("Ready: an authenticated call that reads the database"):
        try:
            checks.wait_ready(target.server(generation), deadline=target.settings.ready_seconds)
        except BakeryError as error:
            error.tail = error.tail or target.journal(generation)
            error.log = error.log or target.spec(generation).console
            raise
