"""The subscription: its locations, resource providers, permissions, groups."""

import re
from typing import TYPE_CHECKING

from tests.azure import routing
from tests.azure.operations import begin
from tests.azure.refusal import Refusal, bad_request
from tests.azure.resources import check_location, page
from tests.azure.routing import GROUP, SUBSCRIPTION, Call, Reply, route
from tests.azure.world import PROVIDERS

if TYPE_CHECKING:
    from tests.azure.fake import Fake

_SUBSCRIPTIONS = ("2022-12-01", "2021-01-01", "2016-06-01")


@route("GET", SUBSCRIPTION, *_SUBSCRIPTIONS)
def _subscription(fake: "Fake", call: Call) -> Reply:
    return Reply(
        200,
        {
            "id": f"/subscriptions/{fake.subscription}", "subscriptionId": fake.subscription,
            "tenantId": fake.tenant, "displayName": "fake", "state": "Enabled",
        },
    )  # fmt: skip


@route("GET", "/subscriptions", *_SUBSCRIPTIONS)
def _subscriptions(fake: "Fake", call: Call) -> Reply:
    return Reply(200, {"value": [_subscription(fake, call).body]})


@route("GET", SUBSCRIPTION + "/locations", *_SUBSCRIPTIONS)
def _locations(fake: "Fake", call: Call) -> Reply:
    here = f"/subscriptions/{fake.subscription}/locations"
    return Reply(
        200,
        {
            "value": [
                {"id": f"{here}/{name}", "name": name, "displayName": shown, "type": "Region"}
                for name, shown in fake.locations.items()
            ]
        },
    )


# -- resource providers ----------------------------------------------------------------------------


def _namespace(name: str) -> str:
    found = [one for one in PROVIDERS if one.lower() == name.lower()]
    if not found:
        raise Refusal(
            404, "InvalidResourceNamespace", f"The resource namespace '{name}' is invalid."
        )
    return found[0]


@route("GET", SUBSCRIPTION + "/providers/{name}", routing.RESOURCES)
def _provider(fake: "Fake", call: Call) -> Reply:
    name = _namespace(call.name)
    state = fake.world.providers[name]
    if state.startswith("Registering"):
        left = int(state.partition(" ")[2] or 0) - 1
        fake.world.providers[name] = f"Registering {left}" if left > 0 else "Registered"
    here = f"/subscriptions/{fake.subscription}/providers/{name}"
    shown = state.partition(" ")[0]
    return Reply(
        200, {"id": here, "namespace": name, "registrationState": shown, "resourceTypes": []}
    )


@route("GET", SUBSCRIPTION + "/providers", routing.RESOURCES)
def _providers(fake: "Fake", call: Call) -> Reply:
    found = [
        {"namespace": name, "registrationState": state.partition(" ")[0]}
        for name, state in fake.world.providers.items()
    ]
    return Reply(200, page(call, found))


@route("POST", SUBSCRIPTION + "/providers/{name}/register", routing.RESOURCES)
def _register(fake: "Fake", call: Call) -> Reply:
    name = _namespace(call.name)
    if "register" in fake.denied:
        raise denied(f"{name}/register/action")
    if fake.world.providers[name] == "NotRegistered":
        fake.world.providers[name] = f"Registering {fake.options.registration_polls}"
    shown = fake.world.providers[name].partition(" ")[0]
    return Reply(200, {"namespace": name, "registrationState": shown})


# -- who may do what -------------------------------------------------------------------------------


def denied(action: str) -> Refusal:
    return Refusal(
        403, "AuthorizationFailed",
        f"The client 'me' with object id 'me' does not have authorization to perform action"
        f" '{action}' over scope or the scope is invalid.",
    )  # fmt: skip


@route("GET", SUBSCRIPTION + "/providers/Microsoft.Authorization/permissions", routing.ROLES)
@route("GET", GROUP + "/providers/Microsoft.Authorization/permissions", routing.ROLES)
def _permissions(fake: "Fake", call: Call) -> Reply:
    return Reply(200, {"value": fake.permissions})


# -- resource groups -------------------------------------------------------------------------------


@route("PUT", GROUP, routing.RESOURCES, kind=("own", "ResourceGroup"))
def _put_group(fake: "Fake", call: Call) -> Reply:
    name = call.group
    if len(name) > 90 or not re.fullmatch(r"[-\w.()]+", name) or name.endswith("."):
        raise bad_request(
            "InvalidResourceGroup", f"The provided resource group name '{name}' is not valid."
        )
    location = call.body["location"].lower().replace(" ", "")
    check_location(fake, location, "Microsoft.Resources/resourceGroups")
    path = f"/subscriptions/{fake.subscription}/resourceGroups/{name}"
    before = fake.world.find(path)
    if before is not None and before["location"] != location:
        raise Refusal(
            409, "InvalidResourceGroupLocation",
            f"Invalid resource group location '{location}'. The Resource group already exists in"
            f" location '{before['location']}'.",
        )  # fmt: skip
    if before is not None:
        fake.world.get_group(name)
    made = fake.world.put(
        {
            "id": before["id"] if before else path, "name": before["name"] if before else name,
            "type": "Microsoft.Resources/resourceGroups", "location": location,
            "tags": call.body.get("tags") or {},
            "properties": {"provisioningState": "Succeeded"},
        }
    )  # fmt: skip
    return Reply(200 if before else 201, fake.shown(made))


@route("GET", GROUP, routing.RESOURCES)
def _get_group(fake: "Fake", call: Call) -> Reply:
    return Reply(200, fake.shown(_group(fake, call)))


def _group(fake: "Fake", call: Call) -> dict[str, object]:
    found = fake.world.find(call.path)
    if found is None:
        raise Refusal(
            404, "ResourceGroupNotFound", f"Resource group '{call.group}' could not be found."
        )
    return found


@route("HEAD", GROUP, routing.RESOURCES)
def _head_group(fake: "Fake", call: Call) -> Reply:
    return Reply(204 if fake.world.find(call.path) else 404)


@route("PATCH", GROUP, routing.RESOURCES, kind=("own", "ResourceGroupPatchable"))
def _patch_group(fake: "Fake", call: Call) -> Reply:
    found = fake.world.get_group(call.group)
    if "tags" in call.body:
        found["tags"] = call.body["tags"]
    return Reply(200, fake.shown(found))


@route("GET", SUBSCRIPTION + "/resourcegroups", routing.RESOURCES)
def _list_groups(fake: "Fake", call: Call) -> Reply:
    found = fake.world.of_type("Microsoft.Resources/resourceGroups")
    wanted = call.query.get("$filter", "").split("'")
    if len(wanted) == 5:
        found = [one for one in found if one["tags"].get(wanted[1]) == wanted[3]]
    return Reply(200, page(call, [fake.shown(one) for one in found]))


@route("DELETE", GROUP, routing.RESOURCES)
def _delete_group(fake: "Fake", call: Call) -> Reply:
    path = str(_group(fake, call)["id"])
    fake.world.get_group(call.group)

    def work() -> None:
        fake.remove_group(path)

    return begin(fake, call, path, work, status=202, style="location")
