"""Security groups with their rules, virtual networks with their subnets."""

import re
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import bad_request
from tests.azure.resources import CHILDREN, check_child, new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

NSG = "Microsoft.Network/networkSecurityGroups"
VNET = "Microsoft.Network/virtualNetworks"
_RULE = f"{NSG}/securityRules"
_SUBNET = f"{VNET}/subnets"


def check_name(kind: str, name: str, longest: int = 80) -> None:
    """Refuse a name that a network resource cannot have.

    Raises:
        Refusal: 400.
    """
    word = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
    if len(name) > longest or not re.fullmatch(word, name):
        raise bad_request("InvalidResourceName", f"Resource name {name} of {kind} is invalid.")


def put(fake: "Fake", call: Call, resource: Resource, *, fresh: bool) -> Reply:
    """Remember a network resource, in the protocol of that provider."""
    refuse_while_busy(fake, resource["id"])
    resource["properties"].setdefault("resourceGuid", fake.guid())
    fake.world.put(resource)
    return begin(
        fake, call, resource["id"], lambda: None,
        status=201 if fresh else 200, style="azure-async",
    )  # fmt: skip


def delete(fake: "Fake", call: Call) -> Reply:
    """Forget a network resource."""
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    refuse_while_busy(fake, call.path)
    path = found["id"]
    return begin(fake, call, path, lambda: fake.world.drop(path), status=202, style="azure-async")


# -- security groups -------------------------------------------------------------------------------


@route("PUT", path_of(NSG), routing.NETWORK, kind=("network", "NetworkSecurityGroup"))
def _put_nsg(fake: "Fake", call: Call) -> Reply:
    check_name(NSG, call.name)
    resource, fresh = new(fake, call, NSG, etag=True)
    rules = resource["properties"].pop("securityRules", [])
    _check_rules(rules)
    before = fake.world.find(call.path)
    reply = put(fake, call, resource, fresh=fresh)
    kept = {one["name"].lower() for one in rules}
    for one in list(before["properties"]["securityRules"]) if before else []:
        if one["name"].lower() not in kept:
            fake.world.drop(one["id"])
    resource["properties"]["securityRules"] = [_rule(fake, resource, one) for one in rules]
    resource["properties"].setdefault("subnets", (before or {}).get("properties", {}).get(
        "subnets", []))  # fmt: skip
    reply.body = fake.shown(resource)
    fake.relink_addresses()
    return reply


def _rule(fake: "Fake", group: Resource, rule: dict[str, Any]) -> Resource:
    return fake.world.put(
        {
            "id": f"{group['id']}/securityRules/{rule['name']}", "name": rule["name"],
            "type": _RULE,
            "properties": {**rule["properties"], "provisioningState": "Succeeded"},
        }
    )  # fmt: skip


def _check_rules(rules: list[dict[str, Any]]) -> None:
    """Refuse rules that Azure does not take.

    Raises:
        Refusal: 400.
    """
    seen: dict[tuple[str, int], str] = {}
    for rule in rules:
        values: dict[str, Any] = rule.get("properties") or {}
        priority, way = values.get("priority"), values.get("direction", "")
        if not rule.get("name"):
            raise bad_request("InvalidRequestFormat", "a security rule has no name")
        for key in ("protocol", "access", "direction", "priority"):
            if values.get(key) is None:
                raise bad_request(
                    "SecurityRuleMissingProperty", f"Security rule {rule['name']} has no {key}."
                )
        if not 100 <= int(priority or 0) <= 4096:
            raise bad_request(
                "SecurityRuleInvalidPriority", f"Security rule {rule['name']} has an invalid"
                f" Priority. The Priority value must be between 100 and 4096. Found: {priority}."
            )  # fmt: skip
        place = (way.lower(), int(priority or 0))
        if place in seen:
            raise bad_request(
                "SecurityRuleConflict", f"Security rule {rule['name']} conflicts with rule"
                f" {seen[place]}. Rules cannot have the same Priority and Direction."
            )  # fmt: skip
        seen[place] = rule["name"]
        _check_ends(rule["name"], values)


def _check_ends(name: str, values: dict[str, Any]) -> None:
    for end in ("sourceAddressPrefix", "destinationAddressPrefix", "sourcePortRange",
                "destinationPortRange"):  # fmt: skip
        plural = f"{end}es" if end.endswith("Prefix") else f"{end}s"
        if values.get(end) is None and not values.get(plural):
            raise bad_request(
                "SecurityRuleParameterContainsUnsupportedValue",
                f"Security rule {name} has neither {end} nor {plural}.",
            )
        if values.get(end) is not None and values.get(plural):
            raise bad_request(
                "SecurityRuleInvalidAddressPrefix", f"Security rule {name} has {end} and {plural}."
            )


@route("DELETE", path_of(NSG), routing.NETWORK)
def _delete_nsg(fake: "Fake", call: Call) -> Reply:
    for subnet in fake.world.of_type(_SUBNET):
        group = (subnet["properties"].get("networkSecurityGroup") or {}).get("id", "")
        if group.lower() == call.path.lower():
            raise bad_request(
                "InUseNetworkSecurityGroupCannotBeDeleted",
                f"Network security group {call.path} cannot be deleted because it is in use by"
                f" the following resources: {subnet['id']}.",
            )
    return delete(fake, call)


@route("PUT", path_of(_RULE), CHILDREN[_RULE], kind=("network", "SecurityRule"))
def _put_rule(fake: "Fake", call: Call) -> Reply:
    group = check_child(fake, call, _RULE)
    rules = group["properties"]["securityRules"]
    others = [one for one in rules if one["name"].lower() != call.name.lower()]
    body = {**call.body, "name": call.name}
    _check_rules([*others, body])
    made = _rule(fake, group, body)
    group["properties"]["securityRules"] = [*others, made]
    fake.relink_addresses()
    fresh = len(others) == len(rules)
    return begin(
        fake, call, made["id"], lambda: None, status=201 if fresh else 200, style="azure-async"
    )


@route("DELETE", path_of(_RULE), CHILDREN[_RULE])
def _delete_rule(fake: "Fake", call: Call) -> Reply:
    group = check_child(fake, call, _RULE)
    rules = group["properties"]["securityRules"]
    group["properties"]["securityRules"] = [
        one for one in rules if one["name"].lower() != call.name.lower()
    ]
    fake.relink_addresses()
    return delete(fake, call)


# -- virtual networks ------------------------------------------------------------------------------


@route("PUT", path_of(VNET), routing.NETWORK, kind=("network", "VirtualNetwork"))
def _put_vnet(fake: "Fake", call: Call) -> Reply:
    check_name(VNET, call.name, 64)
    resource, fresh = new(fake, call, VNET, etag=True)
    space = (resource["properties"].get("addressSpace") or {}).get("addressPrefixes")
    if not space:
        raise bad_request("InvalidRequestFormat", "the virtual network has no addressSpace")
    subnets = resource["properties"].pop("subnets", [])
    before = fake.world.find(call.path)
    kept = {one["name"].lower() for one in subnets}
    for one in list(before["properties"]["subnets"]) if before else []:
        if one["name"].lower() not in kept:
            _refuse_used(fake, one["id"])
            fake.world.drop(one["id"])
    reply = put(fake, call, resource, fresh=fresh)
    resource["properties"]["subnets"] = [_subnet(fake, resource, one) for one in subnets]
    reply.body = fake.shown(resource)
    return reply


def _subnet(fake: "Fake", network: Resource, subnet: dict[str, Any]) -> Resource:
    values = subnet.get("properties") or {}
    if not values.get("addressPrefix") and not values.get("addressPrefixes"):
        raise bad_request("InvalidRequestFormat", f"subnet {subnet['name']} has no addressPrefix")
    group = values.get("networkSecurityGroup")
    if group is not None:
        fake.reference(group["id"], NSG)
    return fake.world.put(
        {
            "id": f"{network['id']}/subnets/{subnet['name']}", "name": subnet["name"],
            "type": _SUBNET, "properties": {**values, "provisioningState": "Succeeded"},
        }
    )  # fmt: skip


def _refuse_used(fake: "Fake", subnet: str) -> None:
    for card in fake.world.of_type("Microsoft.Network/networkInterfaces"):
        for one in card["properties"]["ipConfigurations"]:
            if one["properties"]["subnet"]["id"].lower().startswith(subnet.lower()):
                raise bad_request(
                    "InUseSubnetCannotBeDeleted",
                    f"Subnet {subnet} is in use by {one['id']} and cannot be deleted.",
                )


@route("DELETE", path_of(VNET), routing.NETWORK)
def _delete_vnet(fake: "Fake", call: Call) -> Reply:
    _refuse_used(fake, f"{call.path}/subnets/")
    return delete(fake, call)


@route("PUT", path_of(_SUBNET), CHILDREN[_SUBNET], kind=("network", "Subnet"))
def _put_subnet(fake: "Fake", call: Call) -> Reply:
    network = check_child(fake, call, _SUBNET)
    others = [
        one for one in network["properties"]["subnets"] if one["name"].lower() != call.name.lower()
    ]
    fresh = len(others) == len(network["properties"]["subnets"])
    made = _subnet(fake, network, {**call.body, "name": call.name})
    network["properties"]["subnets"] = [*others, made]
    return begin(
        fake, call, made["id"], lambda: None, status=201 if fresh else 200, style="azure-async"
    )
