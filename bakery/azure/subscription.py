"""What a subscription may do in a region: sizes of machines, quotas."""

from collections.abc import Iterator
from dataclasses import dataclass

from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.settings import words
from bakery.errors import InputError
from bakery.settings import Settings

PROVIDERS = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.Storage")


@dataclass(frozen=True)
class Size:
    """A size of machines, as this subscription may have it."""

    name: str
    family: str
    cores: int


@explained("the sizes of machines")
def sizes(settings: Settings, clients: Clients) -> dict[str, Size]:
    """Return the sizes that the subscription may have in the region, by their names in capitals."""
    listed = clients.compute.resource_skus.list(filter=f"location eq '{settings.azure_location}'")
    found = {}
    for sku in listed:
        if sku.resource_type == "virtualMachines" and not sku.restrictions:
            facts = {one.name: one.value for one in sku.capabilities or []}
            cores = int(facts.get("vCPUs") or 0)
            found[str(sku.name).upper()] = Size(str(sku.name), str(sku.family), cores)
    return found


def choose_size(settings: Settings, clients: Clients, *, training: bool = False) -> Size:
    """Return the first of the sizes that are set which the subscription may have.

    `training`: of those of the training machine.

    Raises:
        InputError: It may have none of them.
    """
    setting = "azure_training_sizes" if training else "azure_vm_sizes"
    wanted, known = str(getattr(settings, setting)), sizes(settings, clients)
    for name in words(wanted):
        if name.upper() in known:
            return known[name.upper()]
    raise InputError(
        f"{settings.azure_location} has none of {wanted} for this subscription",
        hint=f"set others in {setting}, or another azure_location",
    )


@explained("the quotas")
def free_cores(settings: Settings, clients: Clients, family: str) -> Iterator[tuple[str, int]]:
    """Give the quotas that bound a family of sizes, each with the cores that are left of it."""
    for usage in clients.compute.usage.list(settings.azure_location):
        name = str(usage.name.value) if usage.name else ""
        if name.lower() in {"cores", family.lower()}:
            yield name, int(usage.limit or 0) - int(usage.current_value or 0)
