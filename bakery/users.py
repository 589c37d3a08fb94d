"""Who may log in, and the change of passwords and of the storage key."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from bakery import checks, credentials, environment, rotate, targets
from bakery.deploy import serving
from bakery.errors import BakeryError, InputError
from bakery.log import step
from bakery.settings import Settings, check_login, generate_password
from bakery.state import Secrets
from bakery.targets.base import Target

_SECONDS = 60


def listed(settings: Settings) -> list[str]:
    """Return who may log in; the deployment's own user first.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    target = targets.seen(settings)
    return [target.deployment.username, *sorted(target.secrets.users)]


def add(settings: Settings, name: str, password: SecretStr | None, *, show: bool) -> str:
    """Let somebody log in, or give them another password; return it.

    A generated password is kept in the state only when it is not to be shown.

    Raises:
        InputError: The name or the password cannot be used; nothing was changed.
    """
    check_login(name, password)
    value = generate_password() if password is None else password.get_secret_value()
    with _changing(settings) as (target, secrets):
        if name == target.deployment.username:
            raise InputError(f"{name} is the deployment's own user", hint="./inv rotate --password")
        kept = {user: one for user, one in secrets.passwords.items() if user != name}
        if password is None and not show:
            kept[name] = SecretStr(value)
        users = {**secrets.users, name: environment.hash_password(value)}
        _save_and_tell(target, secrets.model_copy(update={"users": users, "passwords": kept}))
        _wait_for(target, name, value, admitted=True)
    return value


def remove(settings: Settings, name: str) -> None:
    """Let somebody log in no more.

    Raises:
        InputError: There is no such user, or it is the deployment's own; nothing was changed.
    """
    with _changing(settings) as (target, secrets):
        if name == target.deployment.username:
            raise InputError(
                f"{name} is the deployment's own user and stays",
                hint="./inv rotate --password; another name: MLFLOW_TRACKING_USERNAME ./inv deploy",
            )
        if name not in secrets.users:
            known = ", ".join(sorted(secrets.users)) or "nobody was added"
            raise InputError(f"no user is called {name}", hint=f"there are: {known}")
        users = {user: one for user, one in secrets.users.items() if user != name}
        kept = {user: one for user, one in secrets.passwords.items() if user != name}
        _save_and_tell(target, secrets.model_copy(update={"users": users, "passwords": kept}))
        # Their password is not known here, so Traefik is asked which environment it has read.
        with step(f"Wait until {name} is refused"):
            serial = target.deployment.environment_serial
            if not checks.wait_serial(target.server(), serial, seconds=_SECONDS):
                raise BakeryError(
                    f"Traefik did not read the new logins within {_SECONDS} s",
                    hint="./inv logs traefik; an image of before can be replaced: ./inv deploy",
                )


def change(
    settings: Settings, *, password: bool, storage_key: bool, given: SecretStr | None = None
) -> None:
    """Change the password of the deployment's own user, the storage key, or both.

    Raises:
        InputError: The given password cannot be used; nothing was changed.
        BakeryError: The machine could not be told; the next call tries again.
    """
    check_login(None, given)
    with _changing(settings) as (target, secrets):
        before, name = secrets.password.get_secret_value(), target.deployment.username
        changed = credentials.with_password(secrets, given) if password else secrets
        _save_and_tell(target, changed, storage_key=storage_key)
        now = changed.password.get_secret_value()
        if before != now:
            _wait_for(target, name, now, admitted=True)
            _wait_for(target, name, before, admitted=False)


@contextmanager
def _changing(settings: Settings) -> Iterator[tuple[Target, Secrets]]:
    """Give a deployment that serves, everything that was cut off brought to its end."""
    with targets.opened(settings) as target:
        generation = serving(target)
        rotate.apply(target, generation)
        yield target, target.secrets


def _save_and_tell(target: Target, secrets: Secrets, *, storage_key: bool = False) -> None:
    target.save_secrets(secrets)
    if storage_key:
        target.renew_storage_key()
    generation = target.deployment.generation
    if generation:
        rotate.apply(target, generation)


def _wait_for(target: Target, name: str, password: str, *, admitted: bool) -> None:
    what = "admitted" if admitted else "refused"
    with step(f"Wait until the {'new' if admitted else 'old'} password of {name} is {what}"):
        if not checks.wait_login(
            target.server(), name, password, admitted=admitted, seconds=_SECONDS
        ):
            raise BakeryError(
                f"{name} was not {what} within {_SECONDS} s", hint="./inv logs --service traefik"
            )
