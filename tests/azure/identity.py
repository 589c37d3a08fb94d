"""User-assigned identities and role assignments, which the product reaches by their ids."""

import re
import time
from typing import TYPE_CHECKING

from tests.azure import routing
from tests.azure.refusal import Refusal, bad_request, conflict
from tests.azure.resources import new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.subscription import denied

if TYPE_CHECKING:
    from tests.azure.fake import Fake

IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
ROLE = "Microsoft.Authorization/roleAssignments"
_ANYWHERE = "/{scope:path}/providers/Microsoft.Authorization/roleAssignments"
_GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@route("PUT", path_of(IDENTITY), routing.IDENTITY, kind=("own", "Identity"))
def _put(fake: "Fake", call: Call) -> Reply:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}", call.name):
        raise bad_request("InvalidParameter", f"The identity's name {call.name} is not valid.")
    before = fake.world.find(call.path)
    resource, fresh = new(fake, call, IDENTITY)
    resource["properties"] = (
        before["properties"]
        if before
        else {"principalId": fake.guid(), "clientId": fake.guid(), "tenantId": fake.tenant}
    )
    fake.world.put(resource)
    if fresh:
        fake.world.secret(resource["id"])["made"] = time.time()
    return Reply(201 if fresh else 200, fake.shown(resource))


@route("DELETE", path_of(IDENTITY), routing.IDENTITY)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    fake.world.drop(found["id"])
    return Reply(200)


@route("PUT", _ANYWHERE + "/{name}", routing.ROLES, kind=("own", "RoleAssignment"))
def _assign(fake: "Fake", call: Call) -> Reply:
    if "roleAssignments" in fake.denied:
        raise denied("Microsoft.Authorization/roleAssignments/write")
    if not re.fullmatch(_GUID, call.name, re.IGNORECASE):
        raise bad_request("InvalidRoleAssignmentId", "The role assignment ID must be a GUID.")
    scope = "/" + call.names["scope"]
    if scope.count("/") > 2:
        fake.world.get(scope)
    values = call.body["properties"]
    if not re.search(rf"/roleDefinitions/{_GUID}$", values["roleDefinitionId"], re.IGNORECASE):
        raise bad_request("InvalidRoleDefinitionId", values["roleDefinitionId"])
    _check_principal(fake, values)
    before = fake.world.find(call.path)
    for one in fake.world.of_type(ROLE, under=f"{scope}/"):
        same = all(
            one["properties"][key].lower() == values[key].lower()
            for key in ("principalId", "roleDefinitionId")
        )
        if same and one["id"].lower() != call.path.lower():
            raise conflict("RoleAssignmentExists", "The role assignment already exists.")
    if before is not None and before["properties"]["principalId"] != values["principalId"]:
        raise conflict(
            "RoleAssignmentUpdateNotPermitted",
            "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
        )
    made = fake.world.put(
        {"id": call.path, "name": call.name, "type": ROLE,
         "properties": {**values, "scope": scope}}
    )  # fmt: skip
    return Reply(201 if before is None else 200, fake.shown(made))


def _check_principal(fake: "Fake", values: dict[str, str]) -> None:
    found = [
        one
        for one in fake.world.of_type(IDENTITY)
        if one["properties"]["principalId"] == values["principalId"]
    ]
    if not found:
        raise _no_principal(values["principalId"])
    age = time.time() - fake.world.secret(found[0]["id"])["made"]
    if "principalType" not in values and age < fake.options.role_delay_seconds:
        raise _no_principal(values["principalId"])


def _no_principal(principal: str) -> Refusal:
    return bad_request(
        "PrincipalNotFound",
        f"Principal {principal.replace('-', '')} does not exist in the directory. Check that you"
        " have the correct principal ID. If you are creating this principal and then immediately"
        " assigning a role, this error might be related to a replication delay. In this case, set"
        " the role assignment principalType property to a value, such as ServicePrincipal, User,"
        " or Group.",
    )


@route("GET", _ANYWHERE + "/{name}", routing.ROLES)
def _get(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        raise Refusal(
            404, "RoleAssignmentNotFound", f"The role assignment '{call.name}' is not found."
        )
    return Reply(200, fake.shown(found))


@route("HEAD", _ANYWHERE + "/{name}", routing.ROLES)
def _head(fake: "Fake", call: Call) -> Reply:
    return Reply(204 if fake.world.find(call.path) else 404)


@route("DELETE", _ANYWHERE + "/{name}", routing.ROLES)
def _unassign(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    fake.world.drop(found["id"])
    return Reply(200, found)


@route("GET", _ANYWHERE, routing.ROLES)
def _list(fake: "Fake", call: Call) -> Reply:
    found = fake.world.of_type(ROLE, under="/" + call.names["scope"] + "/")
    return Reply(200, {"value": [fake.shown(one) for one in found]})
