"""What machines are made from: images of the Marketplace and versions of a gallery."""

from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.refusal import Refusal, bad_request, conflict, not_found
from tests.azure.routing import SUBSCRIPTION, Call, Reply, route
from tests.azure.world import Resource, group_of, split

if TYPE_CHECKING:
    from tests.azure.fake import Fake

VERSION = "Microsoft.Compute/galleries/images/versions"
DEFINITION = "Microsoft.Compute/galleries/images"
_SHOP = SUBSCRIPTION + (
    "/providers/Microsoft.Compute/locations/{location}/publishers/{publisher}/artifacttypes/vmimage"
    "/offers/{offer}/skus/{sku}/versions"
)


def resolve(fake: "Fake", reference: dict[str, Any], plan: Any, location: str) -> Resource:
    """Return the gallery version that a reference means; {} for an image of the Marketplace.

    Raises:
        Refusal: There is none, it is not good, not here, or wants a plan.
    """
    if "id" in reference:
        return _of_gallery(fake, reference["id"], plan, location)
    urn = tuple(reference.get(key, "") for key in ("publisher", "offer", "sku"))
    wanted = reference.get("version", "latest")
    versions = _versions(fake, *urn)
    if not versions or (wanted != "latest" and wanted not in versions):
        raise Refusal(
            404, "PlatformImageNotFound",
            f"The platform image '{':'.join([*urn, wanted])}' is not available. Verify that all"
            " fields in the storage profile are correct.",
        )  # fmt: skip
    if plan is None and any(_same(urn, one) for one in fake.catalogue.plans):
        raise _plan_missing()
    reference["exactVersion"] = versions[-1] if wanted == "latest" else wanted
    return {}


def _plan_missing() -> Refusal:
    return bad_request(
        "VMMarketplaceInvalidInput", "Creating a virtual machine from Marketplace image or a custom"
        " image sourced from a Marketplace image requires Plan information in the request."
    )  # fmt: skip


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return [word.lower() for word in one] == [word.lower() for word in other]


def _versions(fake: "Fake", *urn: str) -> list[str]:
    return next((found for key, found in fake.catalogue.images.items() if _same(key, urn)), [])


def _of_gallery(fake: "Fake", image_id: str, plan: Any, location: str) -> Resource:
    kind, _ = split(image_id)
    if kind.lower() == DEFINITION.lower():
        found = _latest(fake, image_id, location)
    elif kind.lower() == VERSION.lower():
        found = fake.world.find(image_id) or {}
    else:
        raise bad_request("InvalidParameter", f"imageReference.id {image_id} is no gallery image.")
    if not found:
        raise Refusal(
            404, "GalleryImageNotFound", f"The gallery image {image_id} is not available in"
            f" {location} region."
        )  # fmt: skip
    if found["properties"]["provisioningState"] != "Succeeded":
        raise conflict(
            "OperationNotAllowed", f"The gallery image version {found['id']} is in state"
            f" {found['properties']['provisioningState']}."
        )  # fmt: skip
    regions = found["properties"]["publishingProfile"]["targetRegions"]
    if location not in [one["name"].lower().replace(" ", "") for one in regions]:
        raise Refusal(
            404, "GalleryImageNotFound", f"The gallery image {image_id} is not available in"
            f" {location} region. Please contact image owner to replicate to this region, or change"
            " your requested region."
        )  # fmt: skip
    definition = fake.world.get(found["id"].rsplit("/", 2)[0])
    if definition["properties"].get("purchasePlan") and plan is None:
        raise _plan_missing()
    return found


def _latest(fake: "Fake", definition: str, location: str) -> Resource:
    """Return the newest version of a definition that is not left out of `latest`."""
    fake.reference(definition, DEFINITION)
    found = [
        one
        for one in fake.world.of_type(VERSION, under=f"{definition}/")
        if not one["properties"]["publishingProfile"].get("excludeFromLatest")
        and one["properties"]["provisioningState"] == "Succeeded"
    ]
    return max(found, key=lambda one: [int(part) for part in one["name"].split(".")], default={})


# -- what the Marketplace has ----------------------------------------------------------------------


@route("GET", _SHOP, routing.COMPUTE)
def _list(fake: "Fake", call: Call) -> Reply:
    found = _found(fake, call)
    here = call.path.rsplit("/", 1)[0]
    if "$top" in call.query:
        wanted = reversed(found) if "desc" in call.query.get("$orderby", "") else iter(found)
        found = list(wanted)[: int(call.query["$top"])]
    place = call.names["location"]
    return Reply(
        200,
        [{"location": place, "name": one, "id": f"{here}/versions/{one}"} for one in found],
    )


def _found(fake: "Fake", call: Call) -> list[str]:
    urn = [call.names[key] for key in ("publisher", "offer", "sku")]
    found = _versions(fake, *urn)
    if not found:
        raise Refusal(404, "NotFound", "Artifact: VMImage was not found.")
    return found


@route("GET", _SHOP + "/{name}", routing.COMPUTE)
def _get(fake: "Fake", call: Call) -> Reply:
    found = _found(fake, call)
    name = found[-1] if call.name == "latest" else call.name
    if name not in found:
        raise not_found("Microsoft.Compute/locations/publishers", name, group_of(call.path))
    urn = tuple(call.names[key] for key in ("publisher", "offer", "sku"))
    values: dict[str, Any] = {
        "osDiskImage": {"operatingSystem": "Linux"}, "hyperVGeneration": "V2",
        "architecture": "x64",
    }  # fmt: skip
    if any(_same(urn, one) for one in fake.catalogue.plans):
        values["plan"] = {"publisher": urn[0].lower(), "product": urn[1], "name": urn[2]}
    return Reply(
        200,
        {
            "location": call.names["location"], "name": name, "id": call.path,
            "properties": values,
        },
    )  # fmt: skip
