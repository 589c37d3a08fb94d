"""Whether the server lets a training in: asked once, before MLflow's client asks for minutes."""

from dataclasses import replace

import requests

from bakery.checks.door import READY, ask, front
from bakery.errors import InputError
from bakery.settings import Settings
from bakery.targets.base import Server


def checked(settings: Settings, server: Server) -> Server:
    """Return the server with the login that a training uses, which is the one given, if any.

    Raises:
        InputError: It does not answer, is not ready, or refuses the login.
    """
    given = settings.model_fields_set
    mine = replace(
        server,
        username=settings.username if "username" in given else server.username,
        password=settings.password or server.password,
    )
    try:
        answer = ask(front(mine), READY, login=front(mine).login)
    except requests.RequestException as error:
        raise InputError(
            f"{server.url} does not answer ({type(error).__name__})", hint="./inv status"
        ) from None
    if answer.status_code == 401:
        raise _refusal(mine, given=settings.password is not None)
    if answer.status_code != 200:
        raise InputError(
            f"{server.url} is not ready: it answers {answer.status_code}", hint="./inv status"
        )
    return mine


def _refusal(server: Server, *, given: bool) -> InputError:
    if given:
        return InputError(
            f"{server.url} refuses the login of {server.username}: the password in"
            " MLFLOW_TRACKING_PASSWORD is wrong, or was rotated away",
            hint=f'eval "$(./inv env --name {server.name})" sets the current one',
        )
    return InputError(
        f"{server.url} refuses the login of {server.username} that is remembered here",
        hint="was it rotated elsewhere? ./inv deploy tells the machine what is remembered here",
    )
