"""`cost`: what a deployment costs a month, by Azure's public list of retail prices."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

from bakery.azure.settings import words
from bakery.errors import BakeryError
from bakery.log import warn
from bakery.settings import Settings
from bakery.state import write_atomically

_HOURS = 730
_PAGES = 20
# Standard SSDs by the largest size that each tier holds, in GiB.
_SSD = {4: "E1", 8: "E2", 16: "E3", 32: "E4", 64: "E6", 128: "E10", 256: "E15", 512: "E20",
        1024: "E30", 2048: "E40", 4096: "E50"}  # fmt: skip
_OS_DISK_GIB = 30
# Assumed, and said so: what is really in Blob and in the gallery is not known beforehand.
BLOB_GB, IMAGES, IMAGE_GB = 10, 3, 8


@dataclass(frozen=True)
class Item:
    """One line of the bill."""

    what: str
    quantity: float
    unit: str
    price: float
    """US dollars for one unit."""

    @property
    def month(self) -> float:
        """US dollars a month."""
        return round(self.quantity * self.price, 2)


@dataclass(frozen=True)
class Cost:
    """What a deployment costs a month."""

    items: list[Item]
    region: str
    date: str
    """Of the prices."""
    note: str = ""

    @property
    def month(self) -> float:
        """US dollars a month in all."""
        return round(sum(item.month for item in self.items), 2)


@dataclass(frozen=True)
class _Meter:
    """A price that is looked for in the list."""

    what: str
    quantity: float
    unit: str
    wanted: dict[str, str]
    """Fields of the list and what they must be."""

    def price(self, rows: list[dict[str, Any]]) -> float | None:
        """Return the price of a unit: the first tier's; None where the list has none."""
        found = [
            float(row["retailPrice"])
            for row in rows
            if all(row.get(name) == value for name, value in self.wanted.items())
            and not row.get("tierMinimumUnits")
            and "Windows" not in row.get("productName", "")
            and not row.get("skuName", "").endswith((" Spot", " Low Priority"))
        ]
        return min(found, default=None)


_NOTES = {
    "server": f"assumed: {BLOB_GB} GB of artifacts, {IMAGES} images of {IMAGE_GB} GB, one machine"
    " kept for a rollback; traffic, calls and discounts are left out",
    "training": "beside the server, if it runs all the time; while it is stopped"
    " (./inv stop --role training) only disk and address cost something",
}


def cost(settings: Settings, *, role: str = "server") -> Cost:
    """Return what the deployment that is set, or its training machine, costs a month.

    Raises:
        BakeryError: No prices can be had, and none were kept from before.
    """
    region = settings.azure_location
    if settings.target == "local":
        return Cost([], "", "", note="the local target costs nothing: it runs on this host")
    meters = list(_training_meters(settings) if role == "training" else _meters(settings))
    rows, date = _prices(settings, meters, role)
    items = [_item(meter, rows, region) for meter in meters]
    return Cost(items, region, date, note=_NOTES[role])


def _item(meter: _Meter, rows: list[dict[str, Any]], region: str) -> Item:
    price = meter.price(rows)
    if price is None:
        raise BakeryError(
            f"the list of prices has no {meter.what} in {region}",
            hint="the price calculator of Azure knows; or set another azure_location",
        )
    return Item(meter.what, meter.quantity, meter.unit, price)


def _meters(settings: Settings) -> Iterator[_Meter]:
    yield _machine(words(settings.azure_vm_sizes)[0])
    yield _disk("its disk", _OS_DISK_GIB)
    yield _disk("the disk of the one kept for a rollback", _OS_DISK_GIB)
    yield _disk("data disk", settings.data_disk_gib)
    yield _address()
    blob = {
        "serviceName": "Storage",
        "productName": "General Block Blob v2",
        "meterName": "Hot LRS Data Stored",
    }
    yield _Meter("artifacts in Blob", BLOB_GB, "GB", blob)
    snapshot = {
        "serviceName": "Storage",
        "productName": "Standard HDD Managed Disks",
        "meterName": "LRS Snapshots",
    }
    yield _Meter("images in the gallery", IMAGES * IMAGE_GB, "GB", snapshot)


def _training_meters(settings: Settings) -> Iterator[_Meter]:
    yield _machine(words(settings.azure_training_sizes)[0])
    yield _disk("its disk", settings.azure_training_disk_gib)
    yield _address()


def _machine(size: str) -> _Meter:
    wanted = {"serviceName": "Virtual Machines", "armSkuName": size, "unitOfMeasure": "1 Hour"}
    return _Meter(f"machine {size}", _HOURS, "hour", wanted)


def _address() -> _Meter:
    wanted = {"serviceName": "Virtual Network", "meterName": "Standard IPv4 Static Public IP"}
    return _Meter("public address", _HOURS, "hour", wanted)


def _disk(what: str, gib: int) -> _Meter:
    tier = next(name for size, name in _SSD.items() if gib <= size)
    wanted = {
        "serviceName": "Storage",
        "productName": "Standard SSD Managed Disks",
        "meterName": f"{tier} LRS Disk",
    }
    return _Meter(f"{what} ({tier}, {gib} GiB)", 1, "month", wanted)


# -- the list of prices ----------------------------------------------------------------------------


def _prices(
    settings: Settings, meters: list[_Meter], role: str
) -> tuple[list[dict[str, Any]], str]:
    """Return the rows that are of use, and their date: fetched today, or kept from before."""
    kind = "prices" if role == "server" else f"prices-{role}"
    file = settings.state_dir.absolute() / "cache" / f"{kind}-{settings.azure_location}.json"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    question = sorted(_filters(settings, meters))
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known = kept.get("question") == question
    if known and kept["date"] == today:
        return kept["rows"], kept["date"]
    try:
        rows = [row for one in question for row in _fetched(settings, one)]
    except (requests.RequestException, ValueError, KeyError) as failed:
        if not known:
            raise BakeryError(
                f"{settings.azure_prices_url} does not answer ({type(failed).__name__}), and no"
                " prices were kept from before",
                hint="check the network, then again; azure_prices_url names another list",
            ) from failed
        warn(f"the list of prices does not answer; these are of {kept['date']}")
        return kept["rows"], kept["date"]
    text = json.dumps({"date": today, "question": question, "rows": rows})
    write_atomically(file, text, mode=0o644)
    return rows, today


def _filters(settings: Settings, meters: list[_Meter]) -> Iterator[str]:
    place = f"armRegionName eq '{settings.azure_location}' and priceType eq 'Consumption'"
    for meter in meters:
        wanted = [f"{name} eq '{value}'" for name, value in meter.wanted.items()]
        yield " and ".join([place, *wanted])


def _fetched(settings: Settings, question: str) -> Iterator[dict[str, Any]]:
    url: str | None = settings.azure_prices_url
    query: dict[str, str] | None = {"$filter": question}
    trusted = str(settings.azure_ca_bundle) if settings.azure_ca_bundle else True
    for _ in range(_PAGES):
        if url is None:
            return
        answer = requests.get(url, params=query, timeout=20, verify=trusted)
        answer.raise_for_status()
        page = answer.json()
        yield from page["Items"]
        url, query = page.get("NextPageLink"), None
