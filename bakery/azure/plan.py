"""What a deploy or a destroy in Azure would do; everything is read, nothing is written."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bakery import environment
from bakery.azure.errors import explained
from bakery.azure.operations import found
from bakery.plan import Change, generation_changes

if TYPE_CHECKING:
    from bakery.targets.azure_target import AzureTarget


@explained("see what would be done")
def deploy_plan(target: "AzureTarget", image: str | None, *, replace: bool) -> list[Change]:
    """Return what `deploy` would do.

    Raises:
        InputError: It would be refused.
    """
    chosen = target.choose_image(image)
    known, names = target.recall(), target.azure.names
    target.check_names()
    why = _reason(target, chosen.id, known=known, replace=replace)
    rows = generation_changes(
        target.deployment, chosen.id, why, lambda number: f"machine {names.machine(number)}"
    )
    if why and target.deployment.data_disk_served:
        rows.append(Change("create", "snapshot of the data disk", "until the new one serves"))
    return [*_ground(target), *rows]


@explained("see what would be done")
def destroy_plan(target: "AzureTarget", *, with_data: bool) -> list[Change]:
    """Return what `destroy` would do; only what carries our tags is in it."""
    if not target.group.exists():
        return []
    names, network = target.azure.names, target.azure.clients.network
    group, why = target.azure.group, "" if with_data else "data and address stay"
    rows = [
        Change("delete", f"machine {names.machine(number)} with its disk and network interface")
        for number in target.machines.numbers()
    ]
    parts: list[tuple[str, str, Any]] = [
        ("virtual network", names.network, network.virtual_networks),
        ("network security group", names.security_group, network.network_security_groups),
    ]
    if with_data:
        parts.append(("public address", names.address, network.public_ip_addresses))
    rows += target.training.removal_plan()
    for kind, name, client in parts:
        model = found(partial(client.get, group, name))
        if model is not None and names.owns(model.tags):
            rows.append(Change("delete", f"{kind} {name}", why))
    rows += [Change("delete", f"snapshot {name}") for name in target.disks.snapshots()]
    if not with_data:
        return rows
    rows += [Change("delete", f"disk {name}", "the runs are on it") for name in target.disks.all()]
    if target.account.find() is not None:
        text = f"storage account {target.account.name}"
        rows.append(Change("delete", text, "artifacts, backups and state are in it"))
    return rows


def _ground(target: "AzureTarget") -> Iterator[Change]:
    if target.deployment.generation is None:
        for name in target.group.missing_providers():
            yield Change("change", f"resource provider {name}", "it is not registered")
    if target.account.find() is None and not target.group.exists():
        yield Change("create", f"resource group {target.azure.group}")
    for one in (target.account.wanted, *target.net.wanted):
        action, _ = one.state(target.azure.names)
        if action == "create":
            yield Change("create", one.title.removeprefix("the "))
        elif action:
            yield Change("change", one.title.removeprefix("the "), "it is not as it should be")
    if target.disks.known(target.data_disk) is None:
        size = target.settings.data_disk_gib
        yield Change("create", f"disk {target.data_disk}, {size} GiB")
    identity = target.identity
    if identity is not None and not identity.facts():
        yield Change("create", f"identity {target.azure.names.identity} with a role on the account")


def _reason(target: "AzureTarget", image: str, *, known: bool, replace: bool) -> str:
    """Return why a new generation would be made; empty when none would."""
    current = target.deployment.generation
    if not known or current is None:
        return "none serves yet"
    if current.number not in target.machines.numbers():
        return "the machine that served is gone"
    if current.image != image:
        return f"generation {current.number} is of {current.image}"
    if replace:
        return "asked for"
    target.preview_secrets()
    if environment.digest(target.environment()) != target.deployment.environment_digest:
        return "the settings have changed"
    return ""
