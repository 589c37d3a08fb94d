"""A deployment's secrets: those given, those kept, those made, and those rotated away."""

import bcrypt
from pydantic import SecretStr

from bakery import azurite, environment
from bakery.log import warn
from bakery.settings import Settings, generate_password
from bakery.state import Secrets

_RETIRED = 10


def settled(
    settings: Settings, kept: Secrets | None, *, storage_key: SecretStr | None = None
) -> Secrets:
    """Return a deployment's secrets: those given win over those kept, the rest is made.

    `storage_key` is the one that Azure knows; without it one is made where none is given.
    """
    if kept is None:
        kept = _made(settings, storage_key)
    if _is_new(settings.password, kept):
        kept = with_password(kept, settings.password)
    key = settings.storage_access_key if storage_key is None else storage_key
    if key and key != kept.storage_key:
        kept = with_storage_key(kept, key)
    if settings.mysql_password:
        kept = kept.model_copy(update={"mysql_password": settings.mysql_password})
    if kept.check_token is None:
        kept = kept.model_copy(update={"check_token": SecretStr(generate_password())})
    return kept


def with_password(kept: Secrets, password: SecretStr | None = None) -> Secrets:
    """Return the secrets with another password, generated unless given."""
    value = generate_password() if password is None else password.get_secret_value()
    retired = [one for one in (*kept.retired, kept.password_hash) if not _matches(value, one)]
    return kept.model_copy(
        update={
            "password": SecretStr(value),
            "password_hash": environment.hash_password(value),
            "retired": retired[-_RETIRED:],
        }
    )


def with_storage_key(kept: Secrets, key: SecretStr | None = None) -> Secrets:
    """Return the secrets with another storage key; the one until now stays valid meanwhile."""
    return kept.model_copy(
        update={
            "storage_key": key or SecretStr(azurite.generate_key()),
            "previous_storage_key": kept.storage_key,
        }
    )


def _made(settings: Settings, storage_key: SecretStr | None) -> Secrets:
    if storage_key is None:
        storage_key = settings.storage_access_key or SecretStr(azurite.generate_key())
    password = settings.password or SecretStr(generate_password())
    return Secrets(
        password=password,
        password_hash=environment.hash_password(password.get_secret_value()),
        storage_key=storage_key,
    )


def _is_new(given: SecretStr | None, kept: Secrets) -> bool:
    if given is None or given == kept.password:
        return False
    if any(_matches(given.get_secret_value(), one) for one in kept.retired):
        # Most likely a shell's `eval "$(./inv env)"` of before the rotation.
        warn(
            "MLFLOW_TRACKING_PASSWORD holds a password that was rotated away: it is ignored"
            ' (eval "$(./inv env)" sets the current one)'
        )
        return False
    return True


def _matches(password: str, hashed: str) -> bool:
    return bcrypt.checkpw(password.encode(), hashed.encode())
