"""The parts that a network is made of: security group, virtual network, address, interface."""

from collections.abc import Callable
from typing import Any

from bakery.azure.context import Azure
from bakery.azure.names import Number
from bakery.azure.operations import found
from bakery.azure.wanted import Body, Wanted

SUBNET = "machines"
RULES = "bakery-"
"""What the names of our rules begin with; others are somebody else's."""


def security_group(azure: Azure, name: str, rules: list[Body], number: Number | None) -> Wanted:
    """Return a security group with these rules; those of others stay in it."""
    ours = {one["name"] for one in rules}

    def without_stale(body: Body) -> Body:
        rows = body["properties"].get("securityRules", [])
        kept = [r for r in rows if not r["name"].startswith(RULES) or r["name"] in ours]
        return {**body, "properties": {**body["properties"], "securityRules": kept}}

    client = azure.clients.network.network_security_groups
    body: Body = {"properties": {"securityRules": rules}}
    title = f"the network security group {name}"
    return _wanted(azure, title, body, client=client, number=number, drop=without_stale)


def virtual_network(
    azure: Azure, name: str, prefix: str, group: str, number: Number | None
) -> Wanted:
    """Return a network of one subnet, which a security group (its name) guards."""
    guard = azure.names.id_of("Microsoft.Network/networkSecurityGroups", group)
    subnet = {
        "name": SUBNET,
        "properties": {
            "addressPrefix": prefix,
            "networkSecurityGroup": {"id": guard},
            # A machine without a public address reaches nothing outside.
            "defaultOutboundAccess": False,
        },
    }
    properties = {"addressSpace": {"addressPrefixes": [prefix]}, "subnets": [subnet]}
    client = azure.clients.network.virtual_networks
    title, body = f"the virtual network {name}", {"properties": properties}
    return _wanted(azure, title, body, client=client, number=number)


def public_address(azure: Azure, name: str, number: Number | None, label: str = "") -> Wanted:
    """Return a public address that never changes, with a DNS label if one is given."""
    properties: Body = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
    if label:
        properties["dnsSettings"] = {"domainNameLabel": label}
    client = azure.clients.network.public_ip_addresses
    body: Body = {"sku": {"name": "Standard"}, "properties": properties}
    return _wanted(azure, f"the public address {name}", body, client=client, number=number)


def ensure_interface(azure: Azure, number: Number, network: str, address: str = "") -> str:
    """Make a machine's interface in a network (its name) unless it is there; return its full id.

    `address` is the public one, by its name, that it gets at its birth.
    """
    names = azure.names
    inner: Body = {
        "privateIPAllocationMethod": "Dynamic",
        "subnet": {
            "id": f"{names.id_of('Microsoft.Network/virtualNetworks', network)}/subnets/{SUBNET}"
        },
    }
    if address:
        inner["publicIPAddress"] = {
            "id": names.id_of("Microsoft.Network/publicIPAddresses", address)
        }
    body: Body = {
        "location": azure.location,
        "tags": names.tags(number),
        "properties": {"ipConfigurations": [{"name": "main", "properties": inner}]},
    }
    nics: Any = azure.clients.network.network_interfaces
    name = names.interface(number)
    model = found(lambda: nics.get(azure.group, name))
    if model is None:
        put = nics.begin_create_or_update
        model = azure.operations.insist(lambda: put(azure.group, name, body).result())
    return str(model.id)


def rule(name: str, priority: int, port: str, sources: list[str] | None = None) -> Body:
    """Return a rule that lets these sources in at a port; without sources, everybody."""
    where = {"sourceAddressPrefixes": sources} if sources else {"sourceAddressPrefix": "*"}
    return {
        "name": f"{RULES}{name}",
        "properties": {
            "priority": priority,
            "direction": "Inbound",
            "access": "Allow",
            "protocol": "Tcp",
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": port,
            **where,
        },
    }


def _wanted(
    azure: Azure,
    title: str,
    body: Body,
    *,
    client: Any,
    number: Number | None,
    drop: Callable[[Body], Body] = lambda body: body,
) -> Wanted:
    name = title.rsplit(maxsplit=1)[-1]
    whole = {"location": azure.location, "tags": azure.names.tags(number), **body}
    return Wanted(
        title,
        whole,
        lambda: client.get(azure.group, name),
        lambda sent: azure.operations.insist(
            lambda: client.begin_create_or_update(azure.group, name, sent).result()
        ),
        drop,
    )
