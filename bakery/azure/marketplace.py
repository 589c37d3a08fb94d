"""The Marketplace image that a bake on Azure starts from, resolved to a version that is there."""

from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.bases import DEFAULT_BASE, base_names, load_recipe
from bakery.errors import InputError
from bakery.manifest import BaseInfo
from bakery.settings import Settings

Urn = tuple[str, str, str, str]
"""Publisher, offer, SKU, version."""
OUT_OF_SUPPORT = {
    "ubuntu-20.04": (
        "Ubuntu 20.04 gets no fixes since 2025-05-31, but with Ubuntu Pro (paid). Maintained and"
        " free: --base ubuntu-22.04 (until 2027-04) or ubuntu-24.04"
    )
}


def base_name(settings: Settings) -> str:
    """Return the base that a bake on Azure starts from; there it never falls back to another."""
    return settings.base or DEFAULT_BASE


def urn(base: str) -> Urn:
    """Return what a base is called in the Marketplace; its version is mostly `latest`.

    Raises:
        InputError: It is not there.
    """
    found = load_recipe(base).values.get("azure_urn")
    if found is None:
        hint = f"--base, one of {', '.join(_bases())}"
        raise InputError(f"{base} is not a base on Azure", hint=hint)
    publisher, offer, sku, version = str(found).split(":")
    return publisher, offer, sku, version


def published(settings: Settings, clients: Clients) -> Urn:
    """Return the Marketplace image of the base that is set, with its newest version in the region.

    Raises:
        InputError: It is not published there any more; names the bases that are.
    """
    wanted = urn(base_name(settings))
    found = _published(wanted, settings, clients)
    if found is not None:
        return found
    others = [name for name in _bases() if _published(urn(name), settings, clients)]
    raise InputError(
        f"{':'.join(wanted)} is not published in {settings.azure_location}",
        hint=f"--base, one of {', '.join(others)}" if others else "set another azure_location",
    )


def base_info(base: str, found: Urn) -> BaseInfo:
    """Return what a manifest says of the base."""
    text = ":".join(found)
    return BaseInfo(name=base, requested=base, digest=f"urn:{text}", source=text, fallback="")


def _bases() -> list[str]:
    return [name for name in base_names() if "azure_urn" in load_recipe(name).values]


@explained("look for the Marketplace's image")
def _published(wanted: Urn, settings: Settings, clients: Clients) -> Urn | None:
    from azure.core.exceptions import ResourceNotFoundError

    publisher, offer, sku, version = wanted
    try:
        listed = clients.compute.virtual_machine_images.list(
            settings.azure_location, publisher, offer, sku
        )
        versions = sorted((str(one.name) for one in listed), key=_numbers)
    except ResourceNotFoundError:
        return None
    known = [one for one in versions if version in {"latest", one}]
    return (publisher, offer, sku, known[-1]) if known else None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
