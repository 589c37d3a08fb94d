"""Virtual machines: made, changed, removed, with their disks and interfaces."""

from typing import TYPE_CHECKING, Any

from tests.azure import images, routing
from tests.azure.addresses import NIC, reserve
from tests.azure.disks import DISK
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import Refusal, bad_request
from tests.azure.resources import new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.vm_rules import (
    VM,
    check_cards,
    check_change,
    check_disks,
    check_login,
    check_names,
    check_size,
    decoded,
    refuse_without_capacity,
)
from tests.azure.world import Resource, same

if TYPE_CHECKING:
    from tests.azure.fake import Fake


@route("PUT", path_of(VM), routing.COMPUTE, kind=("compute", "VirtualMachine"))
def _put(fake: "Fake", call: Call) -> Reply:
    refuse_while_busy(fake, call.path)
    resource, fresh = new(fake, call, VM, etag=True)
    check_names(fake, resource)
    before = fake.world.find(call.path)
    if call.headers.get("if-none-match") == "*" and before is not None:
        raise Refusal(412, "PreconditionFailed", "the machine exists")
    return _create(fake, call, resource) if fresh else _update(fake, call, resource)


def _create(fake: "Fake", call: Call, resource: Resource) -> Reply:
    values = resource["properties"]
    storage, profile = values.get("storageProfile") or {}, values.get("osProfile") or {}
    size = (values.get("hardwareProfile") or {}).get("vmSize", "Standard_A1_v2")
    reference = storage.get("imageReference")
    if not reference or not storage.get("osDisk"):
        raise bad_request("InvalidParameter", "Required parameter 'imageReference' is missing.")
    check_login(profile)
    data = decoded(profile)
    image = images.resolve(fake, reference, resource.get("plan"), resource["location"])
    cards = check_cards(fake, resource)
    check_disks(fake, resource)
    _check_identity(fake, resource)
    check_size(fake, size, resource["location"])
    fake.world.put(resource)
    kept = fake.world.secret(resource["id"])
    kept |= {
        "custom_data": data.hex(), "power": "running", "image": image,
        "keys": [one["keyData"] for one in _keys(profile)],
    }  # fmt: skip
    for key in ("customData", "adminPassword", "secrets"):
        profile.pop(key, None)
    values |= {"vmId": fake.guid(), "timeCreated": fake.now()}
    values["networkProfile"] = {"networkInterfaces": values["networkProfile"]["networkInterfaces"]}
    _make_os_disk(fake, resource)
    _own(fake, resource, cards)

    def work() -> None:
        try:
            refuse_without_capacity(fake, size)
            fake.machines.start(fake.machine(resource))
        except Refusal:
            kept["power"] = "stopped"
            raise

    return begin(
        fake, call, resource["id"], work, status=201, style="azure-async", slow=fake.machines.slow
    )


def _keys(profile: dict[str, Any]) -> list[dict[str, Any]]:
    return list(
        ((profile.get("linuxConfiguration") or {}).get("ssh") or {}).get("publicKeys") or []
    )


def _check_identity(fake: "Fake", resource: Resource) -> None:
    for one in (resource.get("identity") or {}).get("userAssignedIdentities") or {}:
        fake.reference(one, "Microsoft.ManagedIdentity/userAssignedIdentities")


def _make_os_disk(fake: "Fake", resource: Resource) -> None:
    disk = resource["properties"]["storageProfile"]["osDisk"]
    disk.setdefault("name", f"{resource['name']}_OsDisk_1_{fake.guid().replace('-', '')}")
    disk.setdefault("osType", "Linux")
    disk.setdefault("diskSizeGB", 30)
    group = resource["id"].partition("/providers/")[0]
    path = f"{group}/providers/{DISK}/{disk['name']}"
    disk["managedDisk"] = {**(disk.get("managedDisk") or {}), "id": path}
    fake.world.put(
        {
            "id": path, "name": disk["name"], "type": DISK, "location": resource["location"],
            "tags": resource.get("tags") or {}, "managedBy": resource["id"],
            "sku": {"name": disk["managedDisk"].get("storageAccountType", "Standard_LRS")},
            "properties": {
                "provisioningState": "Succeeded", "diskState": "Attached", "osType": "Linux",
                "diskSizeGB": disk["diskSizeGB"], "creationData": {"createOption": "FromImage"},
            },
        }
    )  # fmt: skip


def _own(fake: "Fake", resource: Resource, cards: list[Resource]) -> None:
    """Let interfaces and data disks be this machine's."""
    for card in cards:
        card["properties"]["virtualMachine"] = {"id": resource["id"]}
        fake.world.secret(card["id"]).pop("reserved", None)
    for one in resource["properties"]["storageProfile"].setdefault("dataDisks", []):
        disk = fake.world.get(one["managedDisk"]["id"])
        one.setdefault("name", disk["name"])
        one.setdefault("deleteOption", "Detach")
        one["toBeDetached"] = False
        own_disk(fake, resource, disk)
    fake.relink_addresses()


def own_disk(fake: "Fake", resource: Resource, disk: Resource) -> None:
    disk["managedBy"] = resource["id"]
    off = fake.world.secret(resource["id"])["power"] == "deallocated"
    disk["properties"]["diskState"] = "Reserved" if off else "Attached"


def free_disk(disk: Resource) -> None:
    disk.pop("managedBy", None)
    disk["properties"]["diskState"] = "Unattached"


# -- changes ---------------------------------------------------------------------------------------


@route("PATCH", path_of(VM), routing.COMPUTE, kind=("compute", "VirtualMachineUpdate"))
def _patch(fake: "Fake", call: Call) -> Reply:
    refuse_while_busy(fake, call.path)
    found = fake.world.get(call.path)
    resource = {
        **found,
        **{key: value for key, value in call.body.items() if key != "properties"},
        "properties": call.body.get("properties") or {},
    }
    return _update(fake, call, resource)


def _update(fake: "Fake", call: Call, resource: Resource) -> Reply:
    before = fake.world.get(call.path)
    check_change(fake, before, resource)
    values = resource["properties"]
    changed = before["properties"]
    size = (values.get("hardwareProfile") or {}).get("vmSize")
    if size is not None and size.lower() != changed["hardwareProfile"]["vmSize"].lower():
        check_size(fake, size, before["location"], but=before["id"])
        changed["hardwareProfile"] = {"vmSize": size}
    if (values.get("networkProfile") or {}).get("networkInterfaces") is not None:
        _change_cards(fake, before, resource)
    for key in ("tags", "identity"):
        if key in call.body:
            before[key] = call.body[key]
    _check_identity(fake, before)
    if "diagnosticsProfile" in values:
        changed["diagnosticsProfile"] = values["diagnosticsProfile"]
    gone: tuple[str, ...] = ()
    if (values.get("storageProfile") or {}).get("dataDisks") is not None:
        gone = _change_disks(fake, before, values["storageProfile"]["dataDisks"])

    def work() -> None:
        finish_detach(fake, before, gone)

    return begin(
        fake, call, before["id"], work, status=200, style="azure-async", detaches=gone,
        slow=fake.machines.slow,
    )  # fmt: skip


def _change_cards(fake: "Fake", before: Resource, resource: Resource) -> None:
    cards = check_cards(fake, {**before, "properties": resource["properties"]})
    asked = resource["properties"]["networkProfile"]["networkInterfaces"]
    kept = {one["id"].lower() for one in asked}
    for one in before["properties"]["networkProfile"]["networkInterfaces"]:
        if one["id"].lower() not in kept:
            card = fake.world.get(one["id"])
            card["properties"].pop("virtualMachine", None)
            reserve(fake, card, before["id"])
    before["properties"]["networkProfile"]["networkInterfaces"] = asked
    _own(fake, before, cards)


def _change_disks(fake: "Fake", before: Resource, wanted: list[dict[str, Any]]) -> tuple[str, ...]:
    """Attach what is new in a list of data disks; return what is no more in it."""
    storage = before["properties"]["storageProfile"]
    asked = [one for one in wanted if not one.get("toBeDetached")]
    check_disks(fake, {**before, "properties": {"storageProfile": {"dataDisks": asked}}})
    kept = {one["managedDisk"]["id"].lower() for one in asked}
    gone = tuple(
        one["managedDisk"]["id"].lower()
        for one in storage["dataDisks"]
        if one["managedDisk"]["id"].lower() not in kept
    )
    leaving = [one for one in storage["dataDisks"] if one["managedDisk"]["id"].lower() in gone]
    storage["dataDisks"] = [*asked, *leaving]
    _own(fake, before, [])
    return gone


def finish_detach(fake: "Fake", resource: Resource, gone: tuple[str, ...]) -> None:
    """Let the machine know of its disks, then free those that it no longer has."""
    storage = resource["properties"]["storageProfile"]
    with fake.world.lock:
        storage["dataDisks"] = [
            one for one in storage["dataDisks"] if one["managedDisk"]["id"].lower() not in gone
        ]
        machine = fake.machine(resource)
    if fake.world.secret(resource["id"])["power"] == "running":
        fake.machines.changed(machine)
    with fake.world.lock:
        for one in gone:
            free_disk(fake.world.get(one))


# -- the end ---------------------------------------------------------------------------------------


@route("DELETE", path_of(VM), routing.COMPUTE)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    refuse_while_busy(fake, call.path)

    def work() -> None:
        remove(fake, found)

    return begin(
        fake, call, found["id"], work, status=202, style="azure-async", slow=fake.machines.slow
    )


def remove(fake: "Fake", resource: Resource) -> None:
    """Remove a machine, and of its disks and interfaces those that go with it."""
    fake.machines.delete(fake.machine(resource))
    with fake.world.lock:
        storage = resource["properties"]["storageProfile"]
        for one in [storage["osDisk"], *storage["dataDisks"]]:
            disk = fake.world.find(one["managedDisk"]["id"])
            if disk is None:
                continue
            free_disk(disk)
            if str(one.get("deleteOption", "Detach")).lower() == "delete":
                fake.machines.delete_disk(disk["id"].lower())
                fake.world.drop(disk["id"])
        for one in resource["properties"]["networkProfile"]["networkInterfaces"]:
            _let_go(fake, resource, one)
        fake.world.drop(resource["id"])
        fake.relink_addresses()


def _let_go(fake: "Fake", resource: Resource, one: dict[str, Any]) -> None:
    card = fake.world.find(one["id"])
    if card is None or not same(card["properties"]["virtualMachine"]["id"], resource["id"]):
        return
    card["properties"].pop("virtualMachine")
    reserve(fake, card, resource["id"])
    option = (one.get("properties") or {}).get("deleteOption", "Detach")
    if str(option).lower() == "delete":
        fake.world.drop(card["id"])


def cards_of(fake: "Fake", resource: Resource) -> list[Resource]:
    """Return the interfaces of a machine."""
    asked = resource["properties"]["networkProfile"]["networkInterfaces"]
    return [fake.reference(one["id"], NIC) for one in asked]
