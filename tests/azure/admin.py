"""The fake's own doors, under `/_fake/`: for tests in other processes, and for playing."""

from dataclasses import fields
from typing import TYPE_CHECKING

from tests.azure.faults import Fault
from tests.azure.refusal import Refusal, bad_request
from tests.azure.routing import Call, Reply, route

if TYPE_CHECKING:
    from tests.azure.fake import Fake


@route("GET", "/_fake/log")
def _log(fake: "Fake", call: Call) -> Reply:
    return Reply(200, fake.journal.as_json())


@route("DELETE", "/_fake/log")
def _clear_log(fake: "Fake", call: Call) -> Reply:
    fake.journal.clear()
    return Reply(204)


@route("GET", "/_fake/state")
def _state(fake: "Fake", call: Call) -> Reply:
    return Reply(200, fake.world.as_json())


@route("GET", "/_fake/faults")
def _faults(fake: "Fake", call: Call) -> Reply:
    return Reply(200, fake.faults.as_json())


@route("POST", "/_fake/faults")
def _add_fault(fake: "Fake", call: Call) -> Reply:
    try:
        fake.faults.add(Fault(**call.body))
    except (TypeError, ValueError) as error:
        raise bad_request("InvalidFault", str(error)) from error
    return Reply(201, fake.faults.as_json()[-1])


@route("DELETE", "/_fake/faults")
def _clear_faults(fake: "Fake", call: Call) -> Reply:
    fake.faults.clear()
    return Reply(204)


@route("GET", "/_fake/options")
def _options(fake: "Fake", call: Call) -> Reply:
    return Reply(200, vars(fake.options))


@route("PATCH", "/_fake/options")
def _set_options(fake: "Fake", call: Call) -> Reply:
    known = {one.name for one in fields(fake.options)}
    unknown = set(call.body) - known
    if unknown:
        raise bad_request("UnknownOption", f"{', '.join(unknown)}: not one of {sorted(known)}")
    for key, value in call.body.items():
        setattr(fake.options, key, value)
    return Reply(200, vars(fake.options))


@route("PATCH", "/_fake/catalogue")
def _set_catalogue(fake: "Fake", call: Call) -> Reply:
    for key in ("not_available", "no_capacity"):
        if key in call.body:
            setattr(fake.catalogue, key, {name.lower() for name in call.body[key]})
    fake.catalogue.quota |= call.body.get("quota", {})
    return Reply(204)


@route("POST", "/_fake/token")
def _token(fake: "Fake", call: Call) -> Reply:
    """Give a token in the shape of `az account get-access-token`."""
    token, end = fake.tokens.issue(fake.tenant, fake.options.token_seconds)
    return Reply(
        200,
        {
            "accessToken": token, "expiresOn": fake.clock(end), "expires_on": int(end),
            "subscription": fake.subscription, "tenant": fake.tenant, "tokenType": "Bearer",
        },
    )  # fmt: skip


@route("POST", "/_fake/tokens/expire")
def _expire(fake: "Fake", call: Call) -> Reply:
    fake.tokens.expire()
    return Reply(204)


@route("PUT", "/_fake/resources/{id:path}")
def _put_resource(fake: "Fake", call: Call) -> Reply:
    """Change a resource behind everybody's back."""
    fake.world.put({**call.body, "id": "/" + call.names["id"]})
    fake.relink_addresses()
    return Reply(200)


@route("DELETE", "/_fake/resources/{id:path}")
def _drop_resource(fake: "Fake", call: Call) -> Reply:
    fake.vanish("/" + call.names["id"])
    return Reply(204)


@route("GET", "/_fake/console/{token}")
def _console(fake: "Fake", call: Call) -> Reply:
    machine = fake.consoles.get(call.names["token"])
    if machine is None or fake.world.find(machine) is None:
        raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")
    vm = fake.world.get(machine)
    return Reply(200, fake.machines.console(fake.machine(vm)))
