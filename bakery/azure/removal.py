"""The end of a deployment: only what carries our tags, each part on its own, the account last."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from bakery.errors import BakeryError
from bakery.state import whoever

if TYPE_CHECKING:
    from bakery.targets.azure_target import AzureTarget


def remove(target: "AzureTarget", *, with_data: bool) -> list[str]:
    """Remove a deployment; return what could not be removed."""
    failures: list[str] = []
    if with_data:
        target.group.note(f"destroy, begun by {whoever()}")
    for name, take_away in _removals(target, with_data=with_data):
        if name in {"storage account", "resource group"} and failures:
            break  # what is left must be found again by the next run
        try:
            take_away()
        except BakeryError as error:
            failures.append(f"{name}: {error}")
    return failures


def _removals(
    target: "AzureTarget", *, with_data: bool
) -> Iterator[tuple[str, Callable[[], object]]]:
    names, network = target.azure.names, target.azure.clients.network
    for number in _numbers(target):
        yield f"machine {number}", partial(target.machines.remove, number)
    if target.group.exists():
        yield from target.training.removals()
    yield "virtual network", partial(target.delete, network.virtual_networks, names.network)
    yield (
        "security group",
        partial(target.delete, network.network_security_groups, names.security_group),
    )
    if target.account.find() is not None:
        yield "snapshots", lambda: target.forget_snapshots(but=set())
    if not with_data:
        yield "state", lambda: _forget_machines(target)
        return
    yield "public address", partial(target.delete, network.public_ip_addresses, names.address)
    for disk in _disks(target):
        yield f"disk {disk}", partial(target.disks.remove, disk)
    identity = target.identity
    if identity is not None:
        yield "identity", lambda: identity.remove(target.account.name)
    yield "storage account", target.account.remove
    yield "resource group", lambda: _end_group(target)


def _numbers(target: "AzureTarget") -> list[int]:
    return target.machines.numbers() if target.group.exists() else []


def _disks(target: "AzureTarget") -> list[str]:
    return target.disks.all() if target.group.exists() else []


def _forget_machines(target: "AzureTarget") -> None:
    deployment = target.deployment
    if target.account.find() is None:
        return
    deployment.ended("destroyed")
    deployment.generation = deployment.previous = deployment.pending = None
    target.save()


def _end_group(target: "AzureTarget") -> None:
    if not target.group.remove_if_empty():
        target.group.note("")
