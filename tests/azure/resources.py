"""What every type of resource has: GET, HEAD, lists, tags; each with its own api-version."""

import re
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.refusal import Refusal, bad_request
from tests.azure.routing import GROUP, SUBSCRIPTION, Call, Reply, route
from tests.azure.world import Resource, group_of, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.azure.fake import Fake

TYPES = {
    "Microsoft.Network/networkSecurityGroups": routing.NETWORK,
    "Microsoft.Network/virtualNetworks": routing.NETWORK,
    "Microsoft.Network/publicIPAddresses": routing.NETWORK,
    "Microsoft.Network/networkInterfaces": routing.NETWORK,
    "Microsoft.Compute/disks": routing.DISKS,
    "Microsoft.Compute/snapshots": routing.DISKS,
    "Microsoft.Compute/virtualMachines": routing.COMPUTE,
    "Microsoft.Compute/galleries": routing.GALLERY,
    "Microsoft.Storage/storageAccounts": routing.STORAGE,
    "Microsoft.ManagedIdentity/userAssignedIdentities": routing.IDENTITY,
}
CHILDREN = {
    "Microsoft.Network/networkSecurityGroups/securityRules": routing.NETWORK,
    "Microsoft.Network/virtualNetworks/subnets": routing.NETWORK,
    "Microsoft.Compute/galleries/images": routing.GALLERY,
    "Microsoft.Compute/galleries/images/versions": routing.GALLERY,
    "Microsoft.Compute/virtualMachines/runCommands": routing.COMPUTE,
}


def path_of(kind: str) -> str:
    """Return the path's template of a type; its last part is `{name}`."""
    provider, *kinds = kind.split("/")
    names = [f"{{parent{number}}}" for number in range(len(kinds) - 1)] + ["{name}"]
    pairs = "/".join(f"{one}/{name}" for one, name in zip(kinds, names, strict=True))
    return f"{GROUP}/providers/{provider}/{pairs}"


def new(fake: "Fake", call: Call, kind: str, *, etag: bool = False) -> tuple[Resource, bool]:
    """Return a resource made of a PUT's body, and whether there was none before.

    Raises:
        Refusal: The location is not ours, or another than that of the one that is there.
    """
    before = fake.world.find(call.path)
    body = dict(call.body)
    location = body.get("location")
    if location is not None:
        body["location"] = location.lower().replace(" ", "")
        check_location(fake, body["location"], kind)
        if before is not None and before["location"] != body["location"]:
            raise Refusal(
                409, "InvalidResourceLocation",
                f"The resource '{call.name}' already exists in location '{before['location']}' in"
                f" resource group '{call.group}'. A resource with the same name cannot be created"
                f" in location '{body['location']}'.",
            )  # fmt: skip
    check_tags(body.get("tags") or {})
    known = before["id"] if before else call.path
    resource: Resource = {
        **{key: value for key, value in body.items() if value is not None},
        "id": known, "name": known.rsplit("/", 1)[1], "type": kind,
        "properties": {
            key: value
            for key, value in (body.get("properties") or {}).items()
            if value is not None
        },
    }  # fmt: skip
    resource.pop("etag", None)
    if etag:
        resource["etag"] = f'W/"{fake.number()}"'
    return resource, before is None


def check_tags(tags: dict[str, str]) -> None:
    """Refuse more than 50 tags, and longer ones than Azure takes.

    Raises:
        Refusal: 400.
    """
    if len(tags) > 50:
        raise bad_request("ResourceTagsLimitExceeded", "The maximum number of tags is 50.")
    for name, value in tags.items():
        if len(name) > 512 or re.search(r"[<>%&\\?/]", name):
            raise bad_request("InvalidTagNameCharacters", f"The tag name '{name}' is invalid.")
        if len(value) > 256:
            raise bad_request(
                "InvalidTagValueLength", f"Tag value too large. Following tag value '{value}'"
                f" exceeded the maximum length of 256 characters. '{len(value)}' characters."
            )  # fmt: skip


def check_location(fake: "Fake", location: str, kind: str) -> None:
    if location not in fake.locations:
        raise bad_request(
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type '{kind}'.",
        )


def tagged(fake: "Fake", call: Call) -> Resource:
    """Return the resource of a PATCH with the body's tags."""
    resource = fake.world.get(call.path)
    if "tags" in call.body:
        check_tags(call.body["tags"])
        resource["tags"] = call.body["tags"]
    return resource


# How a type shows `$expand=instanceView`.
VIEWS: "dict[str, Callable[[Fake, Resource], dict[str, Any]]]" = {}


def _get(fake: "Fake", call: Call) -> Reply:
    found = fake.world.get(call.path)
    shown = fake.shown(found)
    if call.query.get("$expand", "").lower() == "instanceview":
        shown["properties"]["instanceView"] = VIEWS[found["type"]](fake, found)
    return Reply(200, shown)


def _exists(fake: "Fake", call: Call) -> Reply:
    return Reply(204 if fake.world.find(call.path) else 404)


def _lister(kind: str) -> "Callable[[Fake, Call], Reply]":
    def listed(fake: "Fake", call: Call) -> Reply:
        under = call.path.rsplit("/", 1)[0]
        if "/providers/" in under.lower() and kind in CHILDREN:
            fake.world.get(under)
        else:
            under = under[: under.lower().index("/providers/")]
        return Reply(200, page(call, [fake.shown(one) for one in fake.world.of_type(
            kind, under=under)]))  # fmt: skip

    return listed


def page(call: Call, found: list[Any]) -> dict[str, Any]:
    """Return a part of a list, with a link to the next where there is more."""
    size, begin = 50, int(call.query.get("$skiptoken", "0"))
    answer: dict[str, Any] = {"value": found[begin : begin + size]}
    if begin + size < len(found):
        version = f"api-version={call.version}&" if call.version else ""
        rest = f"{version}$skiptoken={begin + size}"
        kept = f"&$filter={call.query['$filter']}" if "$filter" in call.query else ""
        answer["nextLink"] = f"{call.base}{call.path}?{rest}{kept}"
    return answer


def _tags_only(fake: "Fake", call: Call) -> Reply:
    return Reply(200, fake.shown(tagged(fake, call)))


def _register() -> None:
    for kind, version in (TYPES | CHILDREN).items():
        template = path_of(kind)
        route("GET", template, version)(_get)
        route("HEAD", template, version)(_exists)
        route("GET", template.rsplit("/", 1)[0], version)(_lister(kind))
        if kind in TYPES:
            _, _, rest = template.partition("/providers/")
            everywhere = f"{SUBSCRIPTION}/providers/{rest.rsplit('/', 1)[0]}"
            route("GET", everywhere, version)(_lister(kind))
        if kind in TYPES and kind.startswith("Microsoft.Network/"):
            route("PATCH", template, version, kind=("network", "TagsObject"))(_tags_only)


_register()


@route("GET", SUBSCRIPTION + "/resources", routing.RESOURCES)
@route("GET", GROUP + "/resources", routing.RESOURCES)
def _all(fake: "Fake", call: Call) -> Reply:
    if "group" in call.names:
        fake.world.get_group(call.group)
    under = call.path.rsplit("/", 1)[0]
    found: list[Resource] = [
        {key: one[key] for key in ("id", "name", "type", "location", "tags") if key in one}
        for kind in [*TYPES, "Microsoft.Compute/galleries/images",
                     "Microsoft.Compute/galleries/images/versions"]
        for one in fake.world.of_type(kind, under=f"{under}/")
    ]  # fmt: skip
    return Reply(200, page(call, [one for one in found if _filtered(one, call)]))


def _filtered(one: Resource, call: Call) -> bool:
    """Apply the two filters that the product may use: by type, by tag."""
    wanted = call.query.get("$filter", "")
    if not wanted:
        return True
    words = wanted.replace("(", " ").replace(")", " ").split("'")
    if wanted.startswith("resourceType eq") and len(words) == 3:
        return bool(one["type"].lower() == words[1].lower())
    if wanted.startswith("tagName eq") and len(words) == 5:
        return bool((one.get("tags") or {}).get(words[1]) == words[3])
    raise bad_request("InvalidFilterInQueryString", f"The filter '{wanted}' is not supported.")


def check_child(fake: "Fake", call: Call, kind: str) -> Resource:
    """Return the parent of a child resource.

    Raises:
        Refusal: 404; there is none.
    """
    parent = call.path.rsplit("/", 2)[0]
    found = fake.world.find(parent)
    if found is None:
        above, name = split(parent)
        raise Refusal(
            404, "ParentResourceNotFound",
            f"Failed to perform '{call.method}' on resource(s) of type '{kind}', because the parent"
            f" resource '{above}/{name}' in group '{group_of(parent)}' could not be found.",
        )  # fmt: skip
    return found
