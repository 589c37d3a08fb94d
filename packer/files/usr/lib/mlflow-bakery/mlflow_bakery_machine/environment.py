"""A deployment's environment: what cloud-init brings, and the copy that the data disk keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003
from typing import Any, Dict, Optional

from mlflow_bakery_machine.files import MachineError

SCHEMA = 1


@dataclass(frozen=True)
class Storage:
    """The Blob container that artifacts go to."""

    account: str
    container: str
    key: Optional[str]
    """None where the machine has an identity instead."""
    client_id: Optional[str]
    """Of that identity."""
    blob_endpoint: Optional[str]
    """None where the account's name implies it."""


@dataclass(frozen=True)
class Acme:
    """Where and for whom a public certificate is asked."""

    email: str
    """May be empty."""
    directory: str
    ca: Optional[str]
    """PEM; who signs the directory's own HTTPS, when not a public authority."""


@dataclass(frozen=True)
class Environment:
    """One deployment's settings and secrets."""

    serial: int
    deployment: str
    hostname: str
    data_disk_uuid: str
    first: bool
    users: Dict[str, str]
    """User names to bcrypt hashes."""
    mysql_user: str
    mysql_password: Optional[str]
    storage: Storage
    certificate: Optional[str]
    """PEM chain, leaf first; None when ACME gets one."""
    key: Optional[str]
    acme: Optional[Acme]
    check_token: Optional[str]
    """Who sends it is let in before everybody else is; None where all are at once."""
    text: str
    """The JSON that all this came from."""

    def __repr__(self) -> str:
        return "Environment(deployment={!r}, serial={!r})".format(self.deployment, self.serial)


def parse_environment(text: str, origin: str) -> Environment:
    """Read an environment.

    Raises:
        MachineError: It is not JSON, of another schema, or lacks something; its content, which is
            secret, is never in the message.
    """
    try:
        data = json.loads(text)
    except ValueError:
        raise MachineError("{} is not JSON".format(origin)) from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise MachineError("{} is not of schema {}".format(origin, SCHEMA))
    try:
        environment = _environment(data, text)
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        name = fault.args[0] if isinstance(fault, KeyError) else type(fault).__name__
        raise MachineError("{}: missing or of a wrong type: {}".format(origin, name)) from None
    if (environment.certificate is None) == (environment.acme is None):
        raise MachineError("{}: exactly one of tls and acme must be given".format(origin))
    if (environment.storage.key is None) == (environment.storage.client_id is None):
        raise MachineError("{}: exactly one of storage key and client id".format(origin))
    return environment


def _environment(data: Dict[str, Any], text: str) -> Environment:
    storage, tls, acme = data["storage"], data["tls"], data["acme"]
    return Environment(
        serial=int(data["serial"]),
        deployment=str(data["deployment"]),
        hostname=str(data["hostname"]),
        data_disk_uuid=str(data["data_disk"]["uuid"]).lower(),
        first=data["data_disk"]["first"] is True,
        users={str(user): str(digest) for user, digest in data["users"].items()},
        mysql_user=str(data["mysql"]["user"]),
        mysql_password=data["mysql"]["password"],
        storage=Storage(
            account=str(storage["account"]),
            container=str(storage["container"]),
            key=storage["key"],
            client_id=storage.get("client_id"),
            blob_endpoint=storage["blob_endpoint"],
        ),
        certificate=str(tls["certificate"]) if tls else None,
        key=str(tls["key"]) if tls else None,
        acme=_acme(acme) if acme else None,
        check_token=data.get("check_token"),
        text=text,
    )


def _acme(data: Dict[str, Any]) -> Acme:
    return Acme(email=str(data["email"]), directory=str(data["directory"]), ca=data.get("ca"))


def read_environment(path: Path) -> Optional[Environment]:
    """Read the environment in a file; None when there is no such file.

    Raises:
        MachineError: The file cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return parse_environment(text, str(path))


def choose_environment(brought: Optional[Environment], kept: Optional[Environment]) -> Environment:
    """Return the environment with the higher serial; at equal serials the kept one.

    Custom data cannot change, so a machine that boots again brings an old copy; the data disk
    keeps the current one.

    Raises:
        MachineError: There is none, or the two belong to different data disks.
    """
    if brought is None and kept is None:
        raise MachineError("there is no environment: cloud-init did not bring one")
    if brought is None or kept is None:
        return brought or kept  # type: ignore[return-value]
    if brought.data_disk_uuid != kept.data_disk_uuid:
        raise MachineError(
            "the environment on the data disk is of disk {}, the one from cloud-init of {}".format(
                kept.data_disk_uuid, brought.data_disk_uuid
            )
        )
    return brought if brought.serial > kept.serial else kept
