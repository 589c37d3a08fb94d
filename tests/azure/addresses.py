"""Public addresses and network interfaces."""

import itertools
import re
import time
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.network import check_name, delete, put
from tests.azure.refusal import Refusal, bad_request
from tests.azure.resources import new, path_of
from tests.azure.routing import SUBSCRIPTION, Call, Reply, route
from tests.azure.world import Resource, same

if TYPE_CHECKING:
    from tests.azure.fake import Fake

PUBLIC = "Microsoft.Network/publicIPAddresses"
NIC = "Microsoft.Network/networkInterfaces"
_LABEL = r"[a-z][a-z0-9-]{1,61}[a-z0-9]"


@route("PUT", path_of(PUBLIC), routing.NETWORK, kind=("network", "PublicIPAddress"))
def _put_public(fake: "Fake", call: Call) -> Reply:
    check_name(PUBLIC, call.name)
    resource, fresh = new(fake, call, PUBLIC, etag=True)
    values = resource["properties"]
    sku = (resource.get("sku") or {}).get("name", "Basic")
    if sku.lower() == "basic":
        raise bad_request(
            "IPv4BasicSkuPublicIpCountLimitReached",
            "Cannot create more than 0 IPv4 Basic SKU public IP addresses for this subscription in"
            " this region.",
        )
    if values.get("publicIPAllocationMethod", "Dynamic").lower() != "static":
        raise bad_request(
            "StandardSkuPublicIPAddressesMustUseStaticAllocation",
            f"Standard sku publicIp {call.path} must have AllocationMethod set to Static.",
        )
    if fresh and len(fake.world.of_type(PUBLIC)) >= fake.catalogue.public_ips:
        raise bad_request(
            "PublicIPCountLimitReached", "Cannot create more than"
            f" {fake.catalogue.public_ips} public IP addresses for this subscription here."
        )  # fmt: skip
    _name(fake, resource)
    before = fake.world.find(call.path)
    earlier = before["properties"] if before else {}
    values["ipAddress"] = earlier.get("ipAddress") or fake.new_address()
    values["publicIPAddressVersion"] = "IPv4"
    if "ipConfiguration" in earlier:
        values["ipConfiguration"] = earlier["ipConfiguration"]
    reply = put(fake, call, resource, fresh=fresh)
    fake.resolve()
    return reply


def _name(fake: "Fake", resource: Resource) -> None:
    """Give a public address the DNS name of its label.

    Raises:
        Refusal: 400; the label is no label, or another address has it.
    """
    settings = resource["properties"].get("dnsSettings") or {}
    label = settings.get("domainNameLabel")
    if label is None:
        return
    if not re.fullmatch(_LABEL, label):
        raise bad_request(
            "InvalidDomainNameLabel", f"The domain name label {label} is invalid. It must conform"
            " to the following regular expression: ^[a-z][a-z0-9-]{1,61}[a-z0-9]$."
        )  # fmt: skip
    if not _free(fake, label, but=resource["id"]):
        raise bad_request(
            "DnsRecordInUse", f"DNS record {label}.{resource['location']}.cloudapp.azure.com is"
            " already used by another public IP."
        )  # fmt: skip
    settings["fqdn"] = f"{label}.{resource['location']}.cloudapp.azure.com"


def _free(fake: "Fake", label: str, but: str = "") -> bool:
    if label in fake.options.taken_labels:
        return False
    return not any(
        (one["properties"].get("dnsSettings") or {}).get("domainNameLabel") == label
        for one in fake.world.of_type(PUBLIC)
        if not same(one["id"], but)
    )


@route(
    "GET", SUBSCRIPTION + "/providers/Microsoft.Network/locations/{location}/"
    "CheckDnsNameAvailability", routing.NETWORK
)  # fmt: skip
def _check_label(fake: "Fake", call: Call) -> Reply:
    label = call.query.get("domainNameLabel", "")
    if not re.fullmatch(_LABEL, label):
        raise bad_request("InvalidDomainNameLabel", f"The domain name label {label} is invalid.")
    return Reply(200, {"available": _free(fake, label)})


@route("DELETE", path_of(PUBLIC), routing.NETWORK)
def _delete_public(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is not None and "ipConfiguration" in found["properties"]:
        raise bad_request(
            "PublicIPAddressCannotBeDeleted",
            f"Public IP address {found['id']} can not be deleted since it is still allocated to"
            f" resource {found['properties']['ipConfiguration']['id']}. In order to delete the"
            " public IP, disassociate/detach the Public IP address from the resource.",
        )
    reply = delete(fake, call)
    fake.resolve()
    return reply


# -- network interfaces ----------------------------------------------------------------------------


@route("PUT", path_of(NIC), routing.NETWORK, kind=("network", "NetworkInterface"))
def _put_card(fake: "Fake", call: Call) -> Reply:
    check_name(NIC, call.name)
    resource, fresh = new(fake, call, NIC, etag=True)
    before = fake.world.find(call.path)
    configurations = resource["properties"].get("ipConfigurations")
    if not configurations:
        raise bad_request(
            "NetworkInterfaceMustHaveOneIpConfiguration", f"{call.name} has no ipConfigurations."
        )
    for one in configurations:
        _settle(fake, resource, one, before)
    for key in ("virtualMachine", "macAddress"):
        if before and key in before["properties"]:
            resource["properties"][key] = before["properties"][key]
    if before is None:
        resource["properties"].pop("virtualMachine", None)
    reply = put(fake, call, resource, fresh=fresh)
    fake.relink_addresses()
    return reply


def _settle(fake: "Fake", card: Resource, one: dict[str, Any], before: Resource | None) -> None:
    values = one.setdefault("properties", {})
    subnet = values.get("subnet")
    if not subnet:
        raise bad_request("SubnetIdMissing", f"ipConfiguration {one['name']} has no subnet.")
    fake.reference(subnet["id"], "Microsoft.Network/virtualNetworks/subnets")
    one["id"] = f"{card['id']}/ipConfigurations/{one['name']}"
    earlier = before["properties"]["ipConfigurations"][0]["properties"] if before else {}
    values["privateIPAddress"] = earlier.get("privateIPAddress") or _private(fake)
    values.setdefault("privateIPAllocationMethod", "Dynamic")
    values["provisioningState"] = "Succeeded"
    public = values.get("publicIPAddress")
    if public is None:
        return
    values["publicIPAddress"] = {"id": public["id"]}
    target = fake.reference(public["id"], PUBLIC)
    holder = target["properties"].get("ipConfiguration")
    if holder is not None and not same(holder["id"], one["id"]):
        raise bad_request(
            "PublicIPAddressInUse",
            f"Resource {one['id']} is referencing public IP address {target['id']} that is already"
            f" allocated to resource {holder['id']}.",
        )


def _private(fake: "Fake") -> str:
    used = {
        one["properties"].get("privateIPAddress")
        for card in fake.world.of_type(NIC)
        for one in card["properties"]["ipConfigurations"]
    }
    return next(
        address for number in itertools.count(4)
        if (address := f"10.0.{number // 250}.{number % 250}") not in used
    )  # fmt: skip


@route("DELETE", path_of(NIC), routing.NETWORK)
def _delete_card(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    machine = found["properties"].get("virtualMachine")
    if machine is not None:
        raise bad_request(
            "NicInUse",
            f"Network Interface {found['id']} is used by existing resource {machine['id']}. In"
            " order to delete the network interface, it must be dissociated from the resource.",
        )
    refuse_reserved(fake, found, machine="")
    reply = delete(fake, call)
    fake.relink_addresses()
    return reply


def reserve(fake: "Fake", card: Resource, machine: str) -> None:
    """Keep an interface for a machine that was deleted or failed, as Azure does for 180 s."""
    kept = fake.world.secret(card["id"])
    kept["reserved"], kept["until"] = machine, time.time() + fake.options.nic_reserved_seconds


def refuse_reserved(fake: "Fake", card: Resource, machine: str) -> None:
    """Refuse to use an interface that is kept for another machine.

    Raises:
        Refusal: 400.
    """
    kept = fake.world.secret(card["id"])
    if "reserved" not in kept or time.time() >= kept["until"] or same(kept["reserved"], machine):
        return
    seconds = kept["until"] - time.time()
    raise Refusal(
        400, "NicReservedForAnotherVm",
        f"Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please"
        f" provide another nic(s) or retry after {seconds:.0f} seconds. Reserved VM:"
        f" {kept['reserved']}",
    )  # fmt: skip
