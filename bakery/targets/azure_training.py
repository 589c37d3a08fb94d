"""Azure has no training machine: one trains on a machine of one's own, against the server."""

from typing import Any, NoReturn

from bakery.errors import InputError
from bakery.manifest import Manifest
from bakery.targets.base import SshAccess


class NoTraining:
    """The training machine that is not there."""

    image = ""

    @property
    def docker_host(self) -> str:
        """Refuse: there is none.

        Raises:
            InputError: Always.
        """
        _refuse()

    @property
    def access(self) -> SshAccess:
        """Refuse: there is none.

        Raises:
            InputError: Always.
        """
        _refuse()

    def create(self, image: Manifest) -> None:
        """Refuse to make one.

        Raises:
            InputError: Always.
        """
        del image
        _refuse()

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def running(self) -> bool:
        """Return that it does not run."""
        return False

    def remove(self) -> None:
        """Do nothing."""

    def status(self) -> dict[str, Any] | None:
        """Return nothing."""
        return None


def _refuse() -> NoReturn:
    raise InputError(
        "there is no training machine in Azure",
        hint="train on any Docker host: ./inv train --where ssh://USER@HOST",
    )
