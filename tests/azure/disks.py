"""Managed disks and snapshots."""

import re
from typing import TYPE_CHECKING

from tests.azure import routing
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import bad_request, conflict
from tests.azure.resources import new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

DISK = "Microsoft.Compute/disks"
SNAPSHOT = "Microsoft.Compute/snapshots"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?", name):
        raise bad_request("InvalidParameter", f"The name '{name}' of a disk is invalid.")


@route("PUT", path_of(DISK), routing.DISKS, kind=("compute", "Disk"))
def _put_disk(fake: "Fake", call: Call) -> Reply:
    return _put(fake, call, DISK)


@route("PUT", path_of(SNAPSHOT), routing.DISKS, kind=("compute", "Snapshot"))
def _put_snapshot(fake: "Fake", call: Call) -> Reply:
    return _put(fake, call, SNAPSHOT)


def _put(fake: "Fake", call: Call, kind: str) -> Reply:
    _check_name(call.name)
    refuse_while_busy(fake, call.path)
    resource, _ = new(fake, call, kind)
    before = fake.world.find(call.path)
    # What failed as it was made is made by the next PUT.
    made = fake.world.secret(resource["id"]).get("made", False)
    source = None if made else _source(fake, resource, kind)
    values = resource["properties"]
    if before is not None:
        _check_change(before, resource)
        # What a PUT leaves out stays; managedBy and state are Azure's own.
        resource["properties"] = values = {**before["properties"], **values}
        values["diskState"] = before["properties"]["diskState"]
        resource.update({key: before[key] for key in ("managedBy", "sku") if key in before})
    else:
        resource.pop("managedBy", None)
        values["diskState"] = "Unattached"
        values["uniqueId"] = fake.guid()
        values["timeCreated"] = fake.now()
        if source is not None:
            values.setdefault("diskSizeGB", source["properties"].get("diskSizeGB", 30))
        resource.setdefault("sku", {"name": "Standard_LRS"})
    fake.world.put(resource)

    def work() -> None:
        if not made:
            fake.machines.disk(resource, source)
        fake.world.secret(resource["id"])["made"] = True

    return begin(
        fake, call, resource["id"], work, status=202, style="azure-async", slow=fake.machines.slow
    )


def _source(fake: "Fake", resource: Resource, kind: str) -> Resource | None:
    """Return what a new disk or snapshot is a copy of; None for an empty one.

    Raises:
        Refusal: 400 or 404.
    """
    values = resource["properties"]
    data = values.get("creationData") or {}
    way = str(data.get("createOption", "")).lower()
    if way == "empty" and kind == DISK:
        if not values.get("diskSizeGB"):
            raise bad_request("InvalidParameter", "Required parameter 'disk.diskSizeGB' is missing")
        if not 1 <= values["diskSizeGB"] <= 32767:
            raise bad_request("InvalidParameter", "disk.diskSizeGB must be from 1 to 32767")
        return None
    if way in {"copy", "restore"}:
        named = data.get("sourceResourceId")
        if not named:
            raise bad_request(
                "InvalidParameter", "Required parameter 'sourceResourceId' is missing"
            )
        source = fake.world.find(named)
        if source is None or source["type"] not in {DISK, SNAPSHOT}:
            raise bad_request("ResourceNotFound", f"The source {named} was not found.")
        if values.get("incremental") and source["type"] == SNAPSHOT:
            raise bad_request("InvalidParameter", "an incremental snapshot is made of a disk")
        return source
    raise bad_request("InvalidParameter", f"creationData.createOption: {way or 'missing'}")


def _check_change(before: Resource, resource: Resource) -> None:
    old, wanted = before["properties"], resource["properties"]
    size = wanted.get("diskSizeGB", old["diskSizeGB"])
    if size < old["diskSizeGB"]:
        raise conflict("OperationNotAllowed", "Disk size can only be increased, not decreased.")
    for key in ("createOption", "sourceResourceId"):
        asked = (wanted.get("creationData") or {}).get(key)
        had = old["creationData"].get(key)
        if asked is not None and str(asked).lower() != str(had).lower():
            raise conflict(
                "PropertyChangeNotAllowed",
                f"Changing property 'creationData.{key}' is not allowed.",
            )


@route("PATCH", path_of(DISK), routing.DISKS, kind=("compute", "DiskUpdate"))
@route("PATCH", path_of(SNAPSHOT), routing.DISKS, kind=("compute", "SnapshotUpdate"))
def _patch(fake: "Fake", call: Call) -> Reply:
    found = fake.world.get(call.path)
    refuse_while_busy(fake, call.path)
    changed = {**found, "properties": call.body.get("properties") or {}}
    _check_change(found, changed)
    found["properties"] |= call.body.get("properties") or {}
    if "tags" in call.body:
        found["tags"] = call.body["tags"]
    return begin(fake, call, found["id"], lambda: None, status=202, style="azure-async")


@route("DELETE", path_of(DISK), routing.DISKS)
@route("DELETE", path_of(SNAPSHOT), routing.DISKS)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    refuse_while_busy(fake, call.path)
    if found.get("managedBy"):
        raise conflict(
            "OperationNotAllowed", f"Disk {found['name']} is attached to VM {found['managedBy']}."
        )
    path = found["id"]

    def work() -> None:
        fake.machines.delete_disk(path.lower())
        fake.world.drop(path)

    return begin(fake, call, path, work, status=202, style="azure-async")


def refuse_owned(fake: "Fake", disk: Resource, machine: str) -> None:
    """Refuse to attach a disk that another machine has, or is just giving away.

    Raises:
        Refusal: 409.
    """
    leaving = any(
        disk["id"].lower() in one.detaches and not one.ended.is_set()
        for one in fake.operations.values()
    )
    if leaving:
        raise conflict(
            "AttachDiskWhileBeingDetached",
            f"Cannot attach data disk '{disk['name']}' to VM '{machine.rsplit('/', 1)[1]}' because"
            " the disk is currently being detached or the last detach operation failed. Please"
            " wait until the disk is completely detached and then try again or delete/detach the"
            " disk explicitly again.",
        )
    owner = disk.get("managedBy")
    if owner and owner.lower() != machine.lower():
        raise conflict(
            "ConflictingUserInput",
            f"Disk '{disk['id']}' cannot be attached as the disk is already owned by VM '{owner}'.",
        )
