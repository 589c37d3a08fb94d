"""The training machine of a deployment: a second machine with Docker, for `train --where ssh://`."""

from bakery import targets
from bakery.errors import InputError
from bakery.log import note, step
from bakery.plan import Change
from bakery.settings import Settings
from bakery.targets.base import Target


def deploy(settings: Settings, *, image: str | None = None, replace: bool = False) -> str:
    """Make the training machine run, from the newest image or the one named.

    Nothing to do when it runs from that image already (unless `replace`). Returns its DOCKER_HOST.

    Raises:
        InputError: No server is deployed under that name, or there is no such image.
        BakeryError: The machine did not become ready.
    """
    with targets.opened(settings) as target:
        target.server()
        machine = target.training
        machine.check()
        chosen = machine.choose_image(image)
        target.check()
        with step("Network"):
            machine.prepare()
        if machine.image != chosen.id or replace:
            with step("Create the training machine"):
                machine.create(chosen)
        elif machine.running() and machine.ready():
            note(f"nothing to do: the training machine runs {chosen.id}")
            return machine.docker_host
        with step("Boot the training machine, wait for its Docker"):
            machine.start()
        return machine.docker_host


def plan(settings: Settings, *, image: str | None = None, replace: bool = False) -> list[Change]:
    """Return what `deploy` would do; nothing is written.

    Raises:
        InputError: It would be refused.
    """
    target = targets.seen(settings)
    target.server()
    target.training.check()
    return target.training.plan(target.training.choose_image(image), replace=replace)


def stop_alone(settings: Settings) -> None:
    """Shut the training machine down and leave the server as it is.

    Raises:
        InputError: There is no training machine, or nothing is deployed under that name.
    """
    with targets.opened(settings) as target:
        if target.training.status() is None:
            raise InputError(
                f"{settings.name} has no training machine", hint="./inv deploy --role training"
            )
        stop(target)


def destroy(settings: Settings) -> None:
    """Remove the training machine with all that is its own; the server stays as it is.

    Raises:
        InputError: Nothing is deployed under that name.
        BakeryError: Something could not be removed; the same again goes on.
    """
    with targets.opened(settings) as target, step("Destroy the training machine"):
        target.training.remove()


def destroy_plan(settings: Settings) -> list[Change]:
    """Return what `destroy` would do; nothing is written."""
    return targets.seen(settings).training.removal_plan()


def start(target: Target) -> None:
    """Boot the training machine, if there is one that does not run."""
    if target.training.image and not target.training.running():
        with step("Boot the training machine, wait for its Docker"):
            target.training.start()


def stop(target: Target) -> None:
    """Shut the training machine down, if there is one that runs."""
    if target.training.running():
        with step("Stop the training machine"):
            target.training.stop()


def check_role(role: str) -> None:
    """Refuse a role that no machine has.

    Raises:
        InputError: Says which there are.
    """
    if role not in {"server", "training"}:
        raise InputError(f"--role {role}: not known", hint="--role server|training")
