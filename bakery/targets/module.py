"""How a target is opened, looked at and planned: what each module of `bakery.targets` gives."""

from contextlib import AbstractContextManager
from typing import Protocol

from bakery.plan import Change
from bakery.settings import Settings
from bakery.targets.base import Target


class TargetModule(Protocol):
    """A module of `bakery.targets`: one for each value of the setting `target`."""

    @staticmethod
    def check_input(settings: Settings) -> None:
        """Refuse, before anything is made, what can be seen to fail without opening it.

        Raises:
            InputError: With what to do about it.
        """

    @staticmethod
    def check_image(settings: Settings, image: str | None) -> None:
        """Refuse, before anything is made, an image (else the newest) that is seen to be missing.

        `Target.choose_image` is what decides; this may see less.

        Raises:
            InputError: There is no such image.
        """

    @staticmethod
    def exists(settings: Settings) -> bool:
        """Return whether there is anything of a deployment, whole or not."""

    @staticmethod
    def plan_deploy(settings: Settings, *, image: str | None, replace: bool) -> list[Change]:
        """Return what `deploy` would do; nothing is written.

        Raises:
            InputError: It would be refused.
        """

    @staticmethod
    def plan_destroy(settings: Settings, *, with_data: bool) -> list[Change]:
        """Return what `destroy` would do; nothing is written."""

    @staticmethod
    def seen(settings: Settings) -> Target:
        """Return the deployment as it is remembered, to look at; another run may be at it.

        Raises:
            InputError: Nothing is deployed under this name.
        """

    @staticmethod
    def opened(settings: Settings, *, new: bool = False) -> AbstractContextManager[Target]:
        """Give the deployment that the settings name, and nobody else at it.

        Raises:
            InputError: It can never work, or (unless `new`) there is none; nothing was made.
            BakeryError: Another run is at it; says whose.
        """
