"""The storage account: artifacts, backups, and the deployment's own state."""

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import found
from bakery.azure.wanted import Body, Wanted, covers
from bakery.errors import BakeryError, InputError

if TYPE_CHECKING:
    from azure.mgmt.storage.models import StorageAccount

_KEPT_DAYS = 14


class Account:
    """A deployment's storage account."""

    def __init__(self, azure: Azure, known: "StorageAccount | None" = None) -> None:
        self._azure = azure
        self._storage = azure.clients.storage
        self._seen = known
        # A deployment that is there says itself, in settings that were adopted from it.
        self.name = azure.names.account

    @property
    def by_key(self) -> bool:
        """Whether keys may be used."""
        return self._azure.settings.azure_artifact_access == "key"

    @explained("look for the storage account")
    def find(self) -> "StorageAccount | None":
        """Return the deployment's account, whatever its name, or None when there is none."""
        if self._seen is None:
            accounts = self._storage.storage_accounts.list_by_resource_group(self._azure.group)
            rows = found(lambda: [one for one in accounts if self._azure.names.owns(one.tags)])
            self._seen = next(iter(rows or []), None)
        return self._seen

    @property
    def endpoint(self) -> str:
        """The address of its Blob service, as Azure tells it.

        Raises:
            BakeryError: There is no such account.
        """
        account = self.find()
        endpoints = account.primary_endpoints if account else None
        if endpoints is None or not endpoints.blob:
            raise BakeryError(f"there is no storage account {self.name}", hint="./inv deploy")
        return str(endpoints.blob).rstrip("/")

    @explained("check the storage account's name")
    def check_name(self) -> None:
        """Refuse a name that somebody else has.

        Raises:
            InputError: It is taken, or Azure does not want it.
        """
        if self.find() is not None:
            return
        body: Body = {"name": self.name, "type": "Microsoft.Storage/storageAccounts"}
        ask: Any = self._storage.storage_accounts.check_name_availability
        answer = found(lambda: ask(body))  # nobody to ask before the provider is registered
        if answer is not None and not answer.name_available:
            reason = getattr(answer.reason, "value", answer.reason)
            raise InputError(
                f"the storage account's name {self.name} cannot be used ({reason})",
                hint="set another storage_account: 3 to 24 of a-z and 0-9, taken by nobody",
                tail=str(answer.message or ""),
            )

    @property
    def wanted(self) -> Wanted:
        """How the account should be."""
        body: Body = {
            "location": self._azure.location,
            "tags": self._azure.names.tags(),
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "properties": {
                "minimumTlsVersion": "TLS1_2",
                "supportsHttpsTrafficOnly": True,
                "allowBlobPublicAccess": False,
                "allowCrossTenantReplication": False,
                "defaultToOAuthAuthentication": True,
                "allowSharedKeyAccess": self.by_key,
            },
        }
        return Wanted(f"the storage account {self.name}", body, self._get, self._put)

    def ensure(self) -> None:
        """Make or mend the account, and what its Blob service keeps of what is deleted."""
        with explained("make the storage account"):
            self.wanted.ensure(self._azure.names)
        with explained("set what Blob keeps of what is deleted"):
            self._keep_what_is_deleted()

    @explained("make the container")
    def ensure_container(self, name: str) -> None:
        """Make a container when it is not there; nobody reads it without a login."""
        containers = self._storage.blob_containers
        if found(lambda: containers.get(self._azure.group, self.name, name)) is None:
            body: Any = {"properties": {"publicAccess": "None"}}
            containers.create(self._azure.group, self.name, name, body)

    @explained("read the storage account's keys")
    def keys(self) -> dict[str, SecretStr]:
        """Return both keys by their names, `key1` and `key2`; none where keys are forbidden."""
        if not self.by_key:
            return {}
        answer = self._storage.storage_accounts.list_keys(self._azure.group, self.name)
        return {str(one.key_name): SecretStr(str(one.value)) for one in answer["keys"]}

    @explained("make a new storage key")
    def renew_key(self, name: str) -> None:
        """Let Azure make one of the keys anew: the old value ends at once."""
        body: Any = {"keyName": name}
        self._storage.storage_accounts.regenerate_key(self._azure.group, self.name, body)

    @explained("delete the storage account")
    def remove(self) -> None:
        """Delete the account with all that is in it, if it is ours."""
        account = self.find()
        if account is not None:
            self._storage.storage_accounts.delete(self._azure.group, str(account.name))
        self._seen = None

    def _get(self) -> "StorageAccount":
        # Looked at a moment ago, if it is there.
        return self._seen or self._storage.storage_accounts.get_properties(
            self._azure.group, self.name
        )

    def _put(self, body: Body) -> None:
        create: Any = self._storage.storage_accounts.begin_create
        run = self._azure.operations.insist
        self._seen = run(lambda: create(self._azure.group, self.name, body).result())

    def _keep_what_is_deleted(self) -> None:
        kept = {"enabled": True, "days": _KEPT_DAYS}
        wanted: Any = {
            "deleteRetentionPolicy": kept,
            "containerDeleteRetentionPolicy": kept,
            "isVersioningEnabled": True,
        }
        services = self._storage.blob_services
        now = services.get_service_properties(self._azure.group, self.name).as_dict()
        if not covers(now.get("properties"), wanted):
            body: Any = {"properties": wanted}
            services.set_service_properties(self._azure.group, self.name, body)
