"""What the Azure target needs: of this host, of the login, of the subscription and the region."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bakery import packer
from bakery.azure import marketplace
from bakery.azure.bake import recipe_folder
from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.names import OWNER, OWNER_TAG, Names, subscription
from bakery.azure.subscription import PROVIDERS, choose_size, free_cores
from bakery.doctor.finding import Finding
from bakery.settings import Settings

if TYPE_CHECKING:
    from bakery.doctor import Probe

_PERMISSIONS = "2022-04-01"
# What a bake, a deploy and a replacement do, by Azure's own names.
_NEEDED = (
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Compute/galleries/images/versions/write",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.Compute/virtualMachines/runCommand/action",
    "Microsoft.Compute/disks/write",
    "Microsoft.Network/virtualNetworks/write",
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Storage/storageAccounts/write",
    "Microsoft.Storage/storageAccounts/listKeys/action",
)
_ASSIGN = "Microsoft.Authorization/roleAssignments/write"
# Two machines at once, while one takes the other's place; a bake has one of its own.
_MACHINES = 2


def probes() -> "list[tuple[str, Probe]]":
    """Return what is looked at, in order."""
    return [
        ("Packer", _packer),
        ("Packer's Azure plugin", _plugin),
        ("login", _login),
        ("resource providers", _providers),
        ("permissions", _permissions),
        ("size", _registered("size", _size, "Microsoft.Compute")),
        (
            "training machine",
            _registered("training machine", _training_size, "Microsoft.Compute"),
        ),
        ("base", _registered("base", _base, "Microsoft.Compute")),
        ("storage account", _registered("storage account", _account, "Microsoft.Storage")),
        ("host name", _registered("host name", _hostname, "Microsoft.Network")),
    ]


def _registered(name: str, probe: "Probe", provider: str) -> "Probe":
    """Return a probe that does not ask a provider which would first have to be registered."""

    def look(settings: Settings) -> Iterable[Finding]:
        if _state(Clients(settings), provider) == "Registered":
            return probe(settings)
        return [Finding(name, f"not known before {provider} is registered")]

    return look


@explained("the resource providers")
def _state(clients: Clients, provider: str) -> str:
    return str(clients.resources.providers.get(provider).registration_state)


def _packer(_settings: Settings) -> Iterator[Finding]:
    packer.check_for_azure()
    place, version = packer.find_packer()
    yield Finding("Packer", f"{place} {'.'.join(map(str, version))}")


def _plugin(settings: Settings) -> Iterator[Finding]:
    packer.check_for_azure()
    found = packer.azure_plugin(recipe_folder(settings))
    yield Finding("Packer's Azure plugin", found or "not here yet: a bake gets it from GitHub")


@explained("sign in")
def _named(clients: Clients, name: str) -> str:
    found = clients.call("GET", f"/subscriptions/{name}", api_version="2022-12-01")
    return f"{found['displayName']}, {found['state']}"


def _login(settings: Settings) -> Iterator[Finding]:
    name = subscription(settings)
    yield Finding("login", f"subscription {name}: {_named(Clients(settings), name)}")


def _providers(settings: Settings) -> Iterator[Finding]:
    for name in PROVIDERS:
        state = _state(Clients(settings), name)
        text = state if state == "Registered" else f"{state}; a bake or deploy registers it"
        yield Finding(name, text)


def _permissions(settings: Settings) -> Iterator[Finding]:
    path = f"/subscriptions/{subscription(settings)}/providers/Microsoft.Authorization/permissions"
    with explained("the permissions"):
        rows = Clients(settings).call("GET", path, api_version=_PERMISSIONS)["value"]
    wanted = [*_NEEDED, *([_ASSIGN] if settings.azure_artifact_access == "identity" else [])]
    missing = [action for action in wanted if not any(allows(row, action) for row in rows)]
    yield Finding(
        "permissions",
        f"missing: {', '.join(missing)}" if missing else "all that bake and deploy do",
        ok=not missing,
        fix="ask for the role Contributor (for an identity also the right to assign roles)",
    )


def allows(row: dict[str, list[str]], action: str) -> bool:
    """Return whether one of a login's permissions has an action and does not take it away."""
    given = any(_matches(one, action) for one in row.get("actions", []))
    return given and not any(_matches(one, action) for one in row.get("notActions", []))


def _matches(pattern: str, action: str) -> bool:
    """Compare as Azure does: without case, `*` is anything."""
    first, *rest = pattern.lower().split("*")
    action = action.lower()
    if not rest:
        return action == first
    if not action.startswith(first):
        return False
    place = len(first)
    for part in rest[:-1]:
        found = action.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return action.endswith(rest[-1]) and len(action) - len(rest[-1]) >= place


def _size(settings: Settings) -> Iterator[Finding]:
    clients = Clients(settings)
    size = choose_size(settings, clients)
    yield Finding("size", f"{size.name}: {size.cores} cores, family {size.family}")
    for quota, free in free_cores(settings, clients, size.family):
        wanted = _MACHINES * size.cores
        yield Finding(
            f"quota {quota}",
            f"{free} cores are left, a replacement takes {wanted} for a while",
            ok=free >= wanted,
            fix="ask for more in the portal (Quotas), or set other azure_vm_sizes",
        )


def _training_size(settings: Settings) -> Iterator[Finding]:
    if not (settings.azure_gpu or "azure_training_sizes" in settings.model_fields_set):
        return  # none is wanted here
    clients = Clients(settings)
    size = choose_size(settings, clients, training=True)
    yield Finding("training machine", f"{size.name}: {size.cores} cores, family {size.family}")
    for quota, free in free_cores(settings, clients, size.family):
        if quota.lower() == size.family.lower():
            yield Finding(
                f"quota {quota}",
                f"{free} cores are left, a training machine takes {size.cores}",
                ok=free >= size.cores,
                fix="ask for more in the portal (Quotas), or set other azure_training_sizes",
            )


def _base(settings: Settings) -> Iterator[Finding]:
    found = marketplace.published(settings, Clients(settings))
    name = marketplace.base_name(settings)
    yield Finding("base", ":".join(found), note=marketplace.OUT_OF_SUPPORT.get(name, ""))


def _account(settings: Settings) -> Iterator[Finding]:
    names = Names(settings)
    clients = Clients(settings)
    with explained("the storage account's name"):
        answer = clients.storage.storage_accounts.check_name_availability(
            {"name": names.account, "type": "Microsoft.Storage/storageAccounts"}
        )
        ours = _ours(settings, names.id_of("Microsoft.Storage/storageAccounts", names.account))
    free = bool(answer.name_available)
    text = "ours" if ours else "free" if free else str(answer.message)
    yield Finding(
        "storage account", f"{names.account}: {text}", ok=free or ours,
        fix="set another storage_account",
    )  # fmt: skip


def _hostname(settings: Settings) -> Iterator[Finding]:
    names = Names(settings)
    with explained("the host name"):
        answer = Clients(settings).network.check_dns_name_availability(
            settings.azure_location, domain_name_label=names.dns_label
        )
        ours = _ours(settings, names.id_of("Microsoft.Network/publicIPAddresses", names.address))
    free = bool(answer.available)
    name = f"{names.dns_label}{names.dns_suffix}"
    text = "ours" if ours else "free" if free else "somebody else has it"
    yield Finding(
        "host name", f"{name}: {text}", ok=free or ours,
        fix="set another hostname, or leave it out",
    )  # fmt: skip


def _ours(settings: Settings, resource_id: str) -> bool:
    """Return whether a resource of ours is there."""
    kind = resource_id.split("/providers/")[1].rpartition("/")[0]
    listed = Clients(settings).resources.resources.list(filter=f"resourceType eq '{kind}'")
    for one in listed:
        if str(one.id).lower() == resource_id.lower():
            return (one.tags or {}).get(OWNER_TAG) == OWNER
    return False
