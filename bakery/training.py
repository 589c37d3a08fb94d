"""The training machine of a deployment: a second machine with Docker, for `train --where ssh://`."""

from bakery import targets
from bakery.errors import InputError
from bakery.log import note, step
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
        chosen = target.choose_image(image)
        target.check()
        machine = target.training
        if machine.image == chosen.id and not replace:
            if machine.running():
                note(f"nothing to do: the training machine runs {chosen.id}")
                return machine.docker_host
        else:
            with step("Create the training machine"):
                machine.create(chosen)
        start(target)
        return machine.docker_host


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
