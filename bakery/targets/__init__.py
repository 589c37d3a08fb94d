"""Where deployments live: the setting `target` says which module, and only that one is imported."""

from contextlib import AbstractContextManager
from importlib import import_module
from typing import cast

from bakery.plan import Change
from bakery.settings import Settings
from bakery.targets.base import Target
from bakery.targets.module import TargetModule


def _module(settings: Settings) -> TargetModule:
    return cast("TargetModule", import_module(f"bakery.targets.{settings.target}"))


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


def exists(settings: Settings) -> bool:
    """Return whether there is anything of a deployment, whole or not."""
    return _module(settings).exists(settings)


def plan_deploy(settings: Settings, *, image: str | None, replace: bool) -> list[Change]:
    """Return what `deploy` would do; nothing is written.

    Raises:
        InputError: It would be refused.
    """
    return _module(settings).plan_deploy(settings, image=image, replace=replace)


def plan_destroy(settings: Settings, *, with_data: bool) -> list[Change]:
    """Return what `destroy` would do; nothing is written."""
    return _module(settings).plan_destroy(settings, with_data=with_data)


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
