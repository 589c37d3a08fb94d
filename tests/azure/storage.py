"""Storage accounts: names, keys, the Blob service's settings, containers."""

import base64
import re
import secrets
from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.operations import begin
from tests.azure.refusal import Refusal, bad_request, conflict
from tests.azure.resources import new, page, path_of
from tests.azure.routing import SUBSCRIPTION, Call, Reply, route
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

ACCOUNT = "Microsoft.Storage/storageAccounts"
_PATH = path_of(ACCOUNT)
_BLOBS = _PATH + "/blobServices/default"
_CONTAINER = _PATH.replace("{name}", "{account}") + "/blobServices/default/containers/{name}"
_POLICY = _PATH + "/managementPolicies/default"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]{3,24}", name):
        raise bad_request(
            "AccountNameInvalid",
            f"{name} is not a valid storage account name. Storage account name must be between 3"
            " and 24 characters in length and use numbers and lower-case letters only.",
        )


def new_key() -> str:
    """Return a key as Azure makes them."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


@route(
    "POST", SUBSCRIPTION + "/providers/Microsoft.Storage/checkNameAvailability", routing.STORAGE,
    kind=("storage", "StorageAccountCheckNameAvailabilityParameters"),
)  # fmt: skip
def _check(fake: "Fake", call: Call) -> Reply:
    name = call.body["name"]
    try:
        _check_name(name)
    except Refusal as refusal:
        return Reply(
            200,
            {"nameAvailable": False, "reason": "AccountNameInvalid", "message": refusal.message},
        )
    if _taken(fake, name) or _own(fake, name):
        text = f"The storage account named {name} is already taken."
        return Reply(200, {"nameAvailable": False, "reason": "AlreadyExists", "message": text})
    return Reply(200, {"nameAvailable": True})


def _taken(fake: "Fake", name: str) -> bool:
    return name in fake.options.taken_names


def _own(fake: "Fake", name: str) -> Resource | None:
    return next((one for one in fake.world.of_type(ACCOUNT) if one["name"] == name), None)


@route("PUT", _PATH, routing.STORAGE, kind=("storage", "StorageAccountCreateParameters"))
def _create(fake: "Fake", call: Call) -> Reply:
    _check_name(call.name)
    own = _own(fake, call.name)
    if _taken(fake, call.name) or (own and own["id"].lower() != call.path.lower()):
        raise conflict(
            "StorageAccountAlreadyTaken", f"The storage account named {call.name} is already taken."
        )
    resource, fresh = new(fake, call, ACCOUNT)
    values = resource["properties"]
    _check_values(fake, values)
    before = fake.world.find(call.path)
    if before is not None:
        resource["properties"] = values = {**before["properties"], **values}
        resource["tags"] = resource.get("tags", before.get("tags"))
    values |= {
        "primaryEndpoints": {"blob": fake.stores.endpoint(call.name)},
        "primaryLocation": resource["location"], "statusOfPrimary": "available",
        "creationTime": values.get("creationTime", fake.now()),
    }  # fmt: skip
    fake.world.put(resource)
    kept = fake.world.secret(resource["id"])
    kept.setdefault("keys", [new_key(), new_key()])

    def work() -> None:
        fake.stores.set_keys(call.name, (kept["keys"][0], kept["keys"][1]))

    reply = begin(
        fake, call, resource["id"], work, status=202 if fresh else 200,
        style="location" if fresh else "plain",
    )  # fmt: skip
    # Storage says no more than where to ask, while it makes the account.
    return Reply(202, None, reply.headers) if reply.status == 202 else reply


def _check_values(fake: "Fake", values: dict[str, Any]) -> None:
    if values.get("minimumTlsVersion", "TLS1_2") in {"TLS1_0", "TLS1_1"}:
        raise bad_request(
            "InvalidValuesForRequestParameters",
            "Values for request parameters are invalid: minimumTlsVersion.",
        )
    if fake.options.forbid_keys and values.get("allowSharedKeyAccess", True):
        raise Refusal(
            403, "RequestDisallowedByPolicy",
            "Resource was disallowed by policy. Policy identifiers: '[{\"policyAssignment\":"
            "{\"name\":\"Storage accounts should prevent shared key access\"}}]'.",
        )  # fmt: skip


@route("PATCH", _PATH, routing.STORAGE, kind=("storage", "StorageAccountUpdateParameters"))
def _update(fake: "Fake", call: Call) -> Reply:
    found = fake.world.get(call.path)
    values = call.body.get("properties") or {}
    _check_values(fake, {**found["properties"], **values})
    found["properties"] |= values
    if "tags" in call.body:
        found["tags"] = call.body["tags"]
    return Reply(200, fake.shown(found))


@route("DELETE", _PATH, routing.STORAGE)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    fake.world.drop(found["id"])
    fake.stores.remove(found["name"])
    return Reply(200)


# -- keys ------------------------------------------------------------------------------------------


def keys_of(fake: "Fake", account: Resource) -> tuple[str, str]:
    """Return an account's two keys.

    Raises:
        Refusal: 403; keys are not allowed there.
    """
    if not account["properties"].get("allowSharedKeyAccess", True) and fake.options.forbid_keys:
        raise Refusal(
            403, "KeyBasedAuthenticationNotPermitted",
            "Key based authentication is not permitted on this storage account.",
        )  # fmt: skip
    first, second = fake.world.secret(account["id"])["keys"]
    return first, second


def _shown_keys(fake: "Fake", account: Resource) -> Reply:
    named = zip(("key1", "key2"), keys_of(fake, account), strict=True)
    return Reply(
        200,
        {"keys": [{"keyName": name, "value": key, "permissions": "FULL"} for name, key in named]},
    )


@route("POST", _PATH + "/listKeys", routing.STORAGE)
def _list_keys(fake: "Fake", call: Call) -> Reply:
    return _shown_keys(fake, fake.world.get(call.path.rsplit("/", 1)[0]))


@route(
    "POST", _PATH + "/regenerateKey", routing.STORAGE,
    kind=("storage", "StorageAccountRegenerateKeyParameters"),
)  # fmt: skip
def _regenerate(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rsplit("/", 1)[0])
    keys_of(fake, account)
    number = {"key1": 0, "key2": 1}.get(call.body.get("keyName", ""))
    if number is None:
        raise bad_request("InvalidValuesForRequestParameters", "keyName is key1 or key2")
    kept = fake.world.secret(account["id"])
    kept["keys"][number] = new_key()
    fake.stores.set_keys(account["name"], (kept["keys"][0], kept["keys"][1]))
    return _shown_keys(fake, account)


# -- the Blob service and its containers -----------------------------------------------------------


@route("GET", _BLOBS, routing.STORAGE)
def _get_blobs(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rpartition("/blobServices")[0])
    values = fake.world.secret(account["id"]).get("blobs", {})
    return Reply(200, {"id": call.path, "name": "default", "properties": values})


@route("PUT", _BLOBS, routing.STORAGE, kind=("storage", "BlobServiceProperties"))
def _put_blobs(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rpartition("/blobServices")[0])
    values = call.body.get("properties") or {}
    for key in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        policy = values.get(key) or {}
        if policy.get("enabled") and not 1 <= policy.get("days", 0) <= 365:
            raise bad_request("InvalidXmlNodeValue", f"{key}.days is from 1 to 365")
    fake.world.secret(account["id"])["blobs"] = values
    return Reply(200, {"id": call.path, "name": "default", "properties": values})


@route("PUT", _POLICY, routing.STORAGE, kind=("storage", "ManagementPolicy"))
def _put_policy(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rpartition("/managementPolicies")[0])
    fake.world.secret(account["id"])["policy"] = call.body
    return _get_policy(fake, call)


@route("GET", _POLICY, routing.STORAGE)
def _get_policy(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rpartition("/managementPolicies")[0])
    policy = fake.world.secret(account["id"]).get("policy")
    if policy is None:
        raise Refusal(
            404, "ManagementPolicyNotFound", "No ManagementPolicy found for account"
            f" {account['name']}"
        )  # fmt: skip
    return Reply(200, {**policy, "id": call.path, "name": "DefaultManagementPolicy"})


@route("DELETE", _POLICY, routing.STORAGE)
def _delete_policy(fake: "Fake", call: Call) -> Reply:
    account = fake.world.get(call.path.rpartition("/managementPolicies")[0])
    return Reply(200 if fake.world.secret(account["id"]).pop("policy", None) else 204)


def _account_of(fake: "Fake", call: Call) -> Resource:
    return fake.world.get(call.path.partition("/blobServices")[0])


def _containers(fake: "Fake", account: Resource) -> dict[str, Any]:
    kept = fake.world.secret(account["id"])
    found: dict[str, Any] = kept.setdefault("containers", {})
    there = fake.stores.containers(account["name"], kept["keys"][0])
    if there is not None:
        # Some were made or deleted by the data plane.
        kept["containers"] = found = {name: found.get(name, {}) for name in there}
    return found


@route("PUT", _CONTAINER, routing.STORAGE, kind=("storage", "BlobContainer"))
def _put_container(fake: "Fake", call: Call) -> Reply:
    account = _account_of(fake, call)
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", call.name):
        raise bad_request("ContainerNameInvalid", f"{call.name} is not a valid container name.")
    public = (call.body.get("properties") or {}).get("publicAccess", "None")
    if public != "None" and account["properties"].get("allowBlobPublicAccess") is False:
        raise conflict(
            "PublicAccessNotPermitted", "Public access is not permitted on this storage account."
        )
    containers = _containers(fake, account)
    fresh = call.name not in containers
    containers[call.name] = call.body.get("properties") or {}
    key = fake.world.secret(account["id"])["keys"][0]
    fake.stores.make_container(account["name"], key, call.name)
    return Reply(201 if fresh else 200, _shown(call, containers[call.name]))


def _shown(call: Call, values: Any) -> dict[str, Any]:
    return {
        "id": call.path, "name": call.name, "properties": values,
        "type": f"{ACCOUNT}/blobServices/containers",
    }  # fmt: skip


@route("GET", _CONTAINER, routing.STORAGE)
def _get_container(fake: "Fake", call: Call) -> Reply:
    containers = _containers(fake, _account_of(fake, call))
    if call.name not in containers:
        raise Refusal(404, "ContainerNotFound", "The specified container does not exist.")
    return Reply(200, _shown(call, containers[call.name]))


@route("GET", _CONTAINER.rsplit("/", 1)[0], routing.STORAGE)
def _list_containers(fake: "Fake", call: Call) -> Reply:
    containers = _containers(fake, _account_of(fake, call))
    found = [{"id": f"{call.path}/{one}", "name": one} for one in sorted(containers)]
    return Reply(200, page(call, found))


@route("DELETE", _CONTAINER, routing.STORAGE)
def _delete_container(fake: "Fake", call: Call) -> Reply:
    account = _account_of(fake, call)
    if _containers(fake, account).pop(call.name, None) is None:
        return Reply(204)
    key = fake.world.secret(account["id"])["keys"][0]
    fake.stores.delete_container(account["name"], key, call.name)
    return Reply(200)
