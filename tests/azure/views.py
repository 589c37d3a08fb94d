"""What several resources together say of one machine."""

from collections.abc import Iterator
from typing import Any

from tests.azure.machines import Door
from tests.azure.world import Resource, World


def _configurations(world: World, vm: Resource) -> Iterator[tuple[Resource, dict[str, Any]]]:
    for one in vm["properties"]["networkProfile"]["networkInterfaces"]:
        card = world.find(one["id"])
        if card is not None:
            for part in card["properties"]["ipConfigurations"]:
                yield card, part["properties"]


def public_address(world: World, vm: Resource) -> str:
    """Return the public address that leads to a machine; empty when none does."""
    for _, part in _configurations(world, vm):
        public = part.get("publicIPAddress")
        found = world.find(public["id"]) if public else None
        if found is not None:
            return str(found["properties"]["ipAddress"])
    return ""


def doors(world: World, vm: Resource) -> list[Door]:
    """Return what the security groups of a machine say of TCP from outside.

    Nothing is open without a group: a Standard address is closed by default.
    """
    rules: list[dict[str, Any]] = []
    for card, part in _configurations(world, vm):
        subnet = world.find(part["subnet"]["id"])
        for holder in (subnet, card):
            named = (holder or {"properties": {}})["properties"].get("networkSecurityGroup")
            group = world.find(named["id"]) if named else None
            if group is not None:
                rules += [one["properties"] for one in group["properties"]["securityRules"]]
    inbound = [
        one for one in rules
        if one["direction"].lower() == "inbound" and one["protocol"].lower() in {"tcp", "*"}
    ]  # fmt: skip
    return [door for one in sorted(inbound, key=lambda one: int(one["priority"]))
            for door in _doors(one)]  # fmt: skip


def _doors(rule: dict[str, Any]) -> Iterator[Door]:
    sources = rule.get("sourceAddressPrefixes") or [rule.get("sourceAddressPrefix", "*")]
    ports = rule.get("destinationPortRanges") or [rule.get("destinationPortRange", "*")]
    for source in sources:
        for port in ports:
            everybody = str(source).lower() in {"*", "internet", "any", "0.0.0.0/0"}
            yield Door(rule["access"].lower() == "allow", "*" if everybody else source, port)
