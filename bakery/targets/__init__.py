"""Where deployments live: the setting `target` says which module, and only that one is imported."""

from contextlib import AbstractContextManager
from importlib import import_module
from typing import cast

from bakery.errors import InputError
from bakery.settings import Settings
from bakery.targets.base import Target, TargetModule


def _module(settings: Settings) -> TargetModule:
    try:
        return cast("TargetModule", import_module(f"bakery.targets.{settings.target}"))
    except ModuleNotFoundError as error:
        raise InputError(f"target {settings.target} is not there yet", hint="local") from error


def check_input(settings: Settings) -> None:
    """Refuse, before anything is made, what can be seen to fail without opening the deployment.

    Raises:
        InputError: With what to do about it.
    """
    _module(settings).check_input(settings)


def check_image(settings: Settings, image: str | None) -> None:
    """Refuse, before anything is made, an image (else the newest) that is seen to be missing.

    Raises:
        InputError: There is no such image.
    """
    _module(settings).check_image(settings, image)


def seen(settings: Settings) -> Target:
    """Return the deployment as it is remembered, to look at; another run may be at it.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    return _module(settings).seen(settings)


def opened(settings: Settings, *, new: bool = False) -> AbstractContextManager[Target]:
    """Give the deployment that the settings name, and nobody else at it.

    Raises:
        InputError: It can never work, or (unless `new`) there is none; nothing was made.
        BakeryError: Another run is at it; says whose.
    """
    return _module(settings).opened(settings, new=new)
