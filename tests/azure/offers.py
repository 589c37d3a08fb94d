"""What may be had: quotas, sizes, and the retail prices."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.addresses import PUBLIC
from tests.azure.catalogue import Size
from tests.azure.refusal import bad_request
from tests.azure.resources import page
from tests.azure.routing import SUBSCRIPTION, Call, Reply, route

if TYPE_CHECKING:
    from tests.azure.fake import Fake

_USAGES = "/locations/{location}/usages"


def _usage(name: str, shown: str, used: int, limit: int) -> dict[str, Any]:
    return {
        "unit": "Count", "currentValue": used, "limit": limit,
        "name": {"value": name, "localizedValue": shown},
    }  # fmt: skip


@route("GET", SUBSCRIPTION + "/providers/Microsoft.Compute" + _USAGES, routing.COMPUTE)
def _compute(fake: "Fake", call: Call) -> Reply:
    families = sorted({size.family for size in fake.catalogue.sizes.values()})
    found = [
        _usage("cores", "Total Regional vCPUs", fake.cores("cores"),
               fake.catalogue.allowed("cores")),
        _usage("virtualMachines", "Virtual Machines", len(fake.world.of_type(
            "Microsoft.Compute/virtualMachines")), 25_000),
    ]  # fmt: skip
    found += [
        _usage(one, f"{one} vCPUs", fake.cores(one), fake.catalogue.allowed(one))
        for one in families
    ]
    return Reply(200, page(call, found))


@route("GET", SUBSCRIPTION + "/providers/Microsoft.Network" + _USAGES, routing.NETWORK)
def _network(fake: "Fake", call: Call) -> Reply:
    used = len(fake.world.of_type(PUBLIC))
    limit = fake.catalogue.public_ips
    return Reply(
        200,
        page(call, [
            _usage("PublicIPAddresses", "Public IP Addresses", used, limit),
            _usage("StandardSkuPublicIpAddresses", "Public IPv4 Addresses - Standard", used, limit),
        ]),
    )  # fmt: skip


@route("GET", SUBSCRIPTION + "/providers/Microsoft.Compute/skus", routing.SKUS)
def _skus(fake: "Fake", call: Call) -> Reply:
    wanted = re.fullmatch(r"location eq '(\w+)'", call.query.get("$filter", ""))
    if call.query.get("$filter") and not wanted:
        raise bad_request("InvalidFilter", "only location can be filtered by")
    location = wanted[1] if wanted else fake.options.location
    return Reply(200, page(call, [
        _sku(fake, one.name, location) for one in fake.catalogue.sizes.values()
    ]))  # fmt: skip


def _sku(fake: "Fake", name: str, location: str) -> dict[str, Any]:
    size = fake.catalogue.sizes[name.lower()]
    restrictions = []
    if name.lower() in fake.catalogue.not_available:
        restrictions = [
            {"type": "Location", "values": [location],
             "restrictionInfo": {"locations": [location]},
             "reasonCode": "NotAvailableForSubscription"}
        ]  # fmt: skip
    values = {
        "vCPUs": str(size.cores), "MemoryGB": f"{size.memory_gib:g}", "PremiumIO": "True",
        "HyperVGenerations": "V1,V2", "CpuArchitectureType": "x64", "MaxDataDiskCount": "4",
    }  # fmt: skip
    return {
        "resourceType": "virtualMachines", "name": size.name, "tier": "Standard",
        "size": size.name.removeprefix("Standard_"), "family": size.family,
        "locations": [location], "restrictions": restrictions,
        "locationInfo": [{"location": location, "zones": ["1", "2", "3"]}],
        "capabilities": [{"name": key, "value": value} for key, value in values.items()],
    }  # fmt: skip


# -- retail prices (a service of its own, without login) ------------------------------------------

_ALIKE = {
    "currencyCode": "USD", "tierMinimumUnits": 0.0, "location": "EU West", "meterId": "",
    "effectiveStartDate": "2024-01-01T00:00:00Z", "productId": "", "skuId": "", "serviceId": "",
    "serviceFamily": "Compute", "type": "Consumption", "isPrimaryMeterRegion": True,
}  # fmt: skip
_COLUMNS = ("serviceName", "productName", "skuName", "meterName", "unitOfMeasure", "retailPrice",
            "armSkuName")  # fmt: skip
_METERS = (
    ("Storage", "Standard SSD Managed Disks", "E1 LRS", "E1 LRS Disk", "1/Month", 0.3),
    ("Storage", "Standard SSD Managed Disks", "E2 LRS", "E2 LRS Disk", "1/Month", 0.6),
    ("Storage", "Standard SSD Managed Disks", "E3 LRS", "E3 LRS Disk", "1/Month", 1.2),
    ("Storage", "Standard SSD Managed Disks", "E4 LRS", "E4 LRS Disk", "1/Month", 2.4),
    ("Storage", "Standard SSD Managed Disks", "E6 LRS", "E6 LRS Disk", "1/Month", 4.8),
    ("Storage", "Standard SSD Managed Disks", "E10 LRS", "E10 LRS Disk", "1/Month", 9.6),
    ("Storage", "Standard HDD Managed Disks", "Snapshots LRS", "LRS Snapshots", "1 GB/Month", 0.05),
    ("Storage", "Standard SSD Managed Disks", "Snapshots LRS", "LRS Snapshots", "1 GB/Month", 0.05),
    ("Storage", "General Block Blob v2", "Hot LRS", "Hot LRS Data Stored", "1 GB/Month", 0.0196),
    ("Virtual Network", "IP Addresses", "Standard", "Standard IPv4 Static Public IP", "1 Hour",
     0.005),
)  # fmt: skip


def _prices(location: str, sizes: Iterable[Size]) -> list[dict[str, Any]]:
    rows = []
    for one in sizes:
        sku = one.name.removeprefix("Standard_").replace("_", " ")
        series = "Virtual Machines BS Series"
        rows.append(("Virtual Machines", series, sku, sku, "1 Hour", one.price, one.name))
    rows += [(*one, "") for one in _METERS]
    return [{**_ALIKE, **dict(zip(_COLUMNS, row, strict=True)), "unitPrice": row[5],
             "armRegionName": location} for row in rows]  # fmt: skip


@route("GET", "/api/retail/prices")
def _retail(fake: "Fake", call: Call) -> Reply:
    found = _prices(fake.options.location, fake.catalogue.sizes.values())
    text = call.query.get("$filter", "")
    found = [one for one in found if _matches(one, text)]
    size, begin = 1000, int(call.query.get("$skip", "0"))
    more = begin + size < len(found)
    return Reply(
        200,
        {
            "BillingCurrency": "USD", "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail", "Items": found[begin : begin + size],
            "NextPageLink": f"{call.base}{call.path}?$skip={begin + size}" if more else None,
            "Count": min(size, len(found) - begin),
        },
    )  # fmt: skip


def _matches(one: dict[str, Any], text: str) -> bool:
    """Apply a filter of the kinds `a eq 'b'`, `contains(a, 'b')`, joined by `and` and `or`."""
    text = text.strip()
    if not text:
        return True
    for word, joined in ((" or ", any), (" and ", all)):
        parts = _split(text, word)
        if len(parts) > 1:
            return joined(_matches(one, part) for part in parts)
    if text.startswith("(") and text.endswith(")"):
        return _matches(one, text[1:-1])
    equal = re.fullmatch(r"(\w+) (eq|ne) (?:'([^']*)'|(true|false))", text)
    if equal:
        wanted: Any = equal[3] if equal[4] is None else equal[4] == "true"
        # The filter's name of what the rows call `type`.
        name = "type" if equal[1] == "priceType" else equal[1]
        return bool((one.get(name) == wanted) == (equal[2] == "eq"))
    contains = re.fullmatch(r"(contains|startswith|endswith)\((\w+), ?'([^']*)'\)", text)
    if contains:
        value = str(one.get(contains[2], ""))
        if contains[1] == "contains":
            return contains[3] in value
        return getattr(value, contains[1])(contains[3]) is True
    raise bad_request("InvalidFilter", f"Invalid OData parameters supplied: {text}")


def _split(text: str, word: str) -> list[str]:
    """Split at a word that is in no parentheses and no quotes."""
    parts, depth, quoted, begin = [], 0, False, 0
    for place, letter in enumerate(text):
        quoted ^= letter == "'"
        depth += 0 if quoted else (letter == "(") - (letter == ")")
        if not quoted and depth == 0 and text.startswith(word, place):
            parts.append(text[begin:place])
            begin = place + len(word)
    return [*parts, text[begin:]]
