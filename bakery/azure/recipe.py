"""What Packer's recipe for Azure is rendered from, and how Packer signs in: as we do."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import requests

from bakery.azure import github
from bakery.azure.gallery import definition
from bakery.azure.marketplace import Urn, urn
from bakery.azure.names import OWNER, OWNER_TAG, subscription
from bakery.azure.settings import words
from bakery.errors import InputError
from bakery.recipe import AzureArm
from bakery.settings import Settings

_CLOUDS = {"public": "Public", "china": "China", "usgov": "USGovernment"}
# The disk of Canonical's images; a smaller one is refused.
_LEAST_GIB = 30
_NO_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class PackerLogin:
    """How Packer signs in, and the variables that it gets for that by its environment."""

    auth: Literal["cli", "client-secret", "oidc", "managed-identity"]
    variables: dict[str, str]


@dataclass(frozen=True)
class Places:
    """Where a bake on Azure works and what it makes."""

    temporary_group: str
    tags: dict[str, str]
    definition: str
    version: str


def packer_login(settings: Settings) -> PackerLogin:
    """Return the first way of signing in that this environment has, in azure-identity's order.

    A principal with a secret, GitHub's own token, the login of `az`, a managed identity.
    """
    principal = github.principal(settings)
    secret = os.environ.get("AZURE_CLIENT_SECRET", "")
    if all(principal.values()) and secret:
        return PackerLogin("client-secret", {**principal, "client_secret": secret})
    if github.signs_in(settings):
        # Packer asks GitHub for a new token when one ends; the login of `az` could not.
        token, url = (os.environ[name] for name in github.ASKED_WITH)
        return PackerLogin(
            "oidc", {**principal, "oidc_request_token": token, "oidc_request_url": url}
        )
    return PackerLogin("cli" if shutil.which("az") else "managed-identity", {})


def azure_arm(
    settings: Settings, login: PackerLogin, found: Urn, places: Places, *, size: str
) -> AzureArm:
    """Return what the azure-arm source is rendered from."""
    own = settings.azure_base_url
    return AzureArm(
        auth=login.auth,
        cloud=_CLOUDS[settings.azure_cloud],
        metadata_host=urlsplit(own).netloc if own else "",
        subscription=subscription(settings),
        location=settings.azure_location,
        temporary_group=places.temporary_group,
        tags=places.tags,
        allowed=allowed(settings),
        size=size,
        disk_gib=disk_gib(settings),
        urn=found,
        resource_group=settings.azure_resource_group,
        gallery=settings.azure_gallery,
        definition=places.definition,
        version=places.version,
    )


def example(settings: Settings, base: str) -> AzureArm:
    """Return what the source is rendered from without asking Azure, only to be looked at."""
    place = Places("mlflow-bakery-tmp-EXAMPLE", {OWNER_TAG: OWNER}, definition(base), "1.0.0")
    known = settings.model_copy(
        update={
            "azure_subscription": settings.azure_subscription or _NO_SUBSCRIPTION,
            "azure_ssh_sources": settings.azure_ssh_sources or "192.0.2.1/32",
        }
    )
    size = words(settings.azure_vm_sizes)[0]
    return azure_arm(known, packer_login(settings), urn(base), place, size=size)


def disk_gib(settings: Settings) -> int:
    """Return the size of the image's disk, in GiB."""
    return max(settings.disk_gib, _LEAST_GIB)


def allowed(settings: Settings) -> list[str]:
    """Return who may reach a machine that is baked: the SSH sources, or else only this host.

    Raises:
        InputError: This host's public address could not be found out.
    """
    if settings.azure_ssh_sources:
        return words(settings.azure_ssh_sources)
    service = settings.azure_address_service
    try:
        answer = requests.get(service, timeout=10)
        answer.raise_for_status()
    except requests.RequestException as failed:
        raise InputError(
            f"this host's public address is not known: {service} does not answer",
            hint="set azure_ssh_sources to the addresses that may reach the bake's machine",
        ) from failed
    return [f"{answer.text.strip()}/32"]
