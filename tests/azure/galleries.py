"""Compute galleries with image definitions and versions."""

import re
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.images import DEFINITION, VERSION
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import bad_request, conflict
from tests.azure.resources import check_child, new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

GALLERY = "Microsoft.Compute/galleries"


def _answer(
    fake: "Fake", call: Call, resource: Resource, *, fresh: bool, slow_code: int = 201
) -> Reply:
    fake.world.put(resource)
    status = slow_code if fresh else 200
    return begin(fake, call, resource["id"], lambda: None, status=status, style="azure-async")


@route("PUT", path_of(GALLERY), routing.GALLERY, kind=("compute", "Gallery"))
def _put_gallery(fake: "Fake", call: Call) -> Reply:
    name = call.name
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.]{0,78}[A-Za-z0-9_])?", name):
        raise bad_request("InvalidParameter", f"The entity name '{name}' is invalid.")
    refuse_while_busy(fake, call.path)
    resource, fresh = new(fake, call, GALLERY)
    resource["properties"]["identifier"] = {"uniqueName": f"{fake.subscription}-{name.upper()}"}
    return _answer(fake, call, resource, fresh=fresh)


@route("PUT", path_of(DEFINITION), routing.GALLERY, kind=("compute", "GalleryImage"))
def _put_definition(fake: "Fake", call: Call) -> Reply:
    check_child(fake, call, DEFINITION)
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9])?", call.name):
        raise bad_request("InvalidParameter", f"The entity name '{call.name}' is invalid.")
    refuse_while_busy(fake, call.path)
    resource, fresh = new(fake, call, DEFINITION)
    values = resource["properties"]
    for key in ("osType", "osState", "identifier"):
        if not values.get(key):
            raise bad_request("InvalidParameter", f"Required parameter '{key}' is missing (null).")
    for one in fake.world.of_type(DEFINITION, under=call.path.rsplit("/", 1)[0] + "/"):
        if one["name"] != resource["name"] and _identifier(one) == _identifier(resource):
            raise conflict(
                "Conflict", f"The gallery image {one['id']} has the same publisher, offer and sku."
            )
    before = fake.world.find(call.path)
    if before is not None:
        for key in ("osType", "osState", "hyperVGeneration", "identifier", "purchasePlan"):
            if key in values and values[key] != before["properties"].get(key):
                raise conflict(
                    "PropertyChangeNotAllowed",
                    f"Changing property 'galleryImage.properties.{key}' is not allowed.",
                )
        resource["properties"] = {**before["properties"], **values}
    resource["properties"].setdefault("hyperVGeneration", "V1")
    return _answer(fake, call, resource, fresh=fresh, slow_code=202)


def _identifier(resource: Resource) -> list[str]:
    found = resource["properties"]["identifier"]
    return [str(found.get(key, "")).lower() for key in ("publisher", "offer", "sku")]


@route("PUT", path_of(VERSION), routing.GALLERY, kind=("compute", "GalleryImageVersion"))
def _put_version(fake: "Fake", call: Call) -> Reply:
    check_child(fake, call, VERSION)
    parts = call.name.split(".")
    if len(parts) != 3 or not all(part.isdigit() and int(part) < 2**31 for part in parts):
        raise bad_request(
            "InvalidParameter", f"The entity name '{call.name}' is invalid. Allowed characters are"
            " digits and '.', and the version is Major.Minor.Patch of 32-bit integers."
        )  # fmt: skip
    refuse_while_busy(fake, call.path)
    resource, fresh = new(fake, call, VERSION)
    before = fake.world.find(call.path)
    values = resource["properties"]
    if before is None:
        _check_source(fake, values)
    else:
        resource["properties"] = values = {**before["properties"], **values}
    profile = values.setdefault("publishingProfile", {})
    profile.setdefault("targetRegions", [{"name": resource["location"]}])
    profile.setdefault("excludeFromLatest", False)
    profile.setdefault("publishedDate", fake.now())
    return _answer(fake, call, resource, fresh=fresh, slow_code=202)


def _check_source(fake: "Fake", values: dict[str, Any]) -> None:
    storage = values.get("storageProfile") or {}
    source = (storage.get("source") or {}).get("id") or (storage.get("source") or {}).get(
        "virtualMachineId"
    )
    snapshot = ((storage.get("osDiskImage") or {}).get("source") or {}).get("id")
    if not source and not snapshot:
        raise bad_request("InvalidParameter", "storageProfile names no source")
    named = str(source or snapshot)
    if "/providers/microsoft.compute/" not in named.lower():
        raise bad_request("InvalidParameter", f"{named} is no source of an image version")
    if fake.world.find(named) is None:
        raise bad_request("ResourceNotFound", f"The source {named} was not found.")
    is_machine = "/virtualmachines/" in named.lower()
    if is_machine and not fake.world.secret(named).get("generalized"):
        raise conflict("OperationNotAllowed", f"The source {named} has not been generalized.")


@route("PATCH", path_of(GALLERY), routing.GALLERY, kind=("compute", "GalleryUpdate"))
@route("PATCH", path_of(DEFINITION), routing.GALLERY, kind=("compute", "GalleryImageUpdate"))
@route("PATCH", path_of(VERSION), routing.GALLERY, kind=("compute", "GalleryImageVersionUpdate"))
def _patch(fake: "Fake", call: Call) -> Reply:
    found = fake.world.get(call.path)
    refuse_while_busy(fake, call.path)
    if "tags" in call.body:
        found["tags"] = call.body["tags"]
    for key, value in (call.body.get("properties") or {}).items():
        had = found["properties"].get(key)
        both = isinstance(value, dict) and isinstance(had, dict)
        found["properties"][key] = {**had, **value} if both else value
    return begin(fake, call, found["id"], lambda: None, status=200, style="azure-async")


@route("DELETE", path_of(GALLERY), routing.GALLERY)
@route("DELETE", path_of(DEFINITION), routing.GALLERY)
@route("DELETE", path_of(VERSION), routing.GALLERY)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    refuse_while_busy(fake, call.path)
    below = [key for key in fake.world.resources if key.startswith(f"{call.path.lower()}/")]
    if below:
        raise conflict(
            "CannotDeleteResource",
            "Can not delete resource before nested resources are deleted.",
        )
    path = found["id"]
    return begin(fake, call, path, lambda: fake.world.drop(path), status=202, style="azure-async")
