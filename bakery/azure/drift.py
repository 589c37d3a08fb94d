"""What is not as we made it: changed or removed by somebody else, or by a run that was cut off."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bakery.azure.errors import explained
from bakery.azure.network_parts import RULES
from bakery.azure.operations import as_dict

if TYPE_CHECKING:
    from bakery.state import Generation
    from bakery.targets.azure_target import AzureTarget


@explained("compare what is there with what should be")
def drift(target: "AzureTarget") -> list[str]:
    """Return each difference in words; `deploy` mends what is ours, and leaves the rest."""
    rows = [*_resources(target), *_foreign_rules(target)]
    current = target.deployment.generation
    if current is not None and target.deployment.pending is None:
        rows += _machine(target, current)
    return [*rows, *target.training.drift()]


def _resources(target: "AzureTarget") -> Iterator[str]:
    for one in (target.account.wanted, *target.net.wanted):
        action, _ = one.state(target.azure.names)
        if action:
            yield f"{one.title} {'is gone' if action == 'create' else 'was changed'}"
    if target.deployment.data_disk_served and target.disks.known(target.data_disk) is None:
        yield f"the disk {target.data_disk} is gone"


def _foreign_rules(target: "AzureTarget") -> Iterator[str]:
    group = target.net.find_security_group()
    for rule in as_dict(group)["properties"].get("securityRules", []) if group else []:
        name, facts = rule["name"], rule["properties"]
        if not name.startswith(RULES):
            source = facts.get("sourceAddressPrefix") or facts.get("sourceAddressPrefixes")
            yield (
                f"the network security group has a rule that is not ours: {name}"
                f" ({facts.get('access')} port {facts.get('destinationPortRange')} from {source})"
            )


def _machine(target: "AzureTarget", current: "Generation") -> Iterator[str]:
    number, names = current.number, target.azure.names
    if number not in target.machines.numbers():
        yield f"the machine of generation {number} is gone"
        return
    if not target.running(current):
        return  # it was stopped, which is no drift
    disk = target.disks.known(target.data_disk)
    if disk is not None and names.machine(number) != (disk.managed_by or "").split("/")[-1]:
        yield f"the data disk is not attached to the machine of generation {number}"
    if target.net.holder() != names.interface(number):
        yield f"the public address does not lead to the machine of generation {number}"
