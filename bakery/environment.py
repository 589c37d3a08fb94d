"""The deployment's environment as cloud-init brings it: what a machine must know, secrets too."""

import base64
import hashlib
import json
from typing import Any

import bcrypt

from bakery.render import render
from bakery.state import Deployment, Secrets
from bakery.targets.base import BlobAccess
from bakery.tls import Certificate

# Each request pays for it, and the generated password has 192 bits: see the threat model.
_BCRYPT_ROUNDS = 5


def hash_password(password: str) -> str:
    """Return the bcrypt hash that Traefik checks."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=_BCRYPT_ROUNDS)).decode()


def environment(
    deployment: Deployment,
    values: Secrets,
    *,
    mysql_user: str,
    blob: BlobAccess,
    blob_endpoint: str | None,
    certificate: Certificate | None,
    acme: dict[str, str | None] | None = None,
    client_id: str | None = None,
) -> dict[str, Any]:
    """Return all of it but its serial; `blob_endpoint` is None where the account implies it.

    Without a certificate the machine gets one by `acme`; with a `client_id` it reaches Blob by
    that identity, and is given no key.
    """
    mysql_password = values.mysql_password and values.mysql_password.get_secret_value()
    return {
        "schema": 1,
        "deployment": deployment.name,
        "hostname": deployment.hostname,
        "data_disk": {
            "uuid": deployment.data_disk_uuid,
            # Only an empty disk that never served may be formatted.
            "first": not deployment.data_disk_served,
        },
        "users": values.logins(deployment.username),
        "mysql": {"user": mysql_user, "password": mysql_password},
        "storage": {
            "account": blob.account,
            "container": blob.container,
            "key": None if client_id else blob.key.get_secret_value(),
            "client_id": client_id,
            "blob_endpoint": blob_endpoint,
        },
        "tls": certificate and {"certificate": certificate.chain, "key": certificate.key},
        "acme": None if certificate else acme,
        "check_token": values.check_token and values.check_token.get_secret_value(),
    }


def digest(values: dict[str, Any]) -> str:
    """Return a hash of an environment that changes when a machine must learn of a change."""
    told = {key: value for key, value in values.items() if key not in {"data_disk", "serial"}}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def as_text(values: dict[str, Any], serial: int) -> str:
    """Return an environment as machines read it."""
    return json.dumps({**values, "serial": serial}, ensure_ascii=False)


def user_data(values: dict[str, Any], serial: int) -> str:
    """Return the cloud-init user-data that brings an environment."""
    text = as_text(values, serial)
    encoded = base64.b64encode(text.encode()).decode()
    return render("cloud-init/user-data.yaml.j2", environment_base64=encoded)
