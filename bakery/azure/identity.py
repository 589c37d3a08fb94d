"""An identity for the machines, with a role on the account, in the place of the account's key."""

import uuid
from typing import Any

from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import found

_KIND = "Microsoft.ManagedIdentity/userAssignedIdentities"
_IDENTITY_API, _ROLE_API = "2024-11-30", "2022-04-01"
_BLOB_DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


class Identity:
    """The identity of a deployment's machines: it outlives each of them."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._resources: Any = azure.clients.resources.resources
        self.id = azure.names.id_of(_KIND, azure.names.identity)

    @explained("look at the identity of the machines")
    def facts(self) -> dict[str, str]:
        """Return its `clientId` and `principalId`; empty when there is none."""
        model = found(lambda: self._resources.get_by_id(self.id, api_version=_IDENTITY_API))
        return {} if model is None else dict(model.properties)

    def ensure(self, account: str) -> None:
        """Make it, and let it read and write the blobs of a storage account."""
        with explained("make the identity of the machines"):
            body = {"location": self._azure.location, "tags": self._azure.names.tags()}
            if not self.facts():
                self._put(self.id, body, _IDENTITY_API)
        with explained("let the machines read and write blobs (a role assignment)"):
            self._assign(account, self.facts()["principalId"])

    @explained("delete the identity of the machines")
    def remove(self, account: str) -> None:
        """Delete its role and the identity itself."""
        facts = self.facts()
        if not facts:
            return
        delete = self._resources.begin_delete_by_id
        role = self._role(account, facts["principalId"])
        found(lambda: delete(role, api_version=_ROLE_API).result())
        found(lambda: delete(self.id, api_version=_IDENTITY_API).result())

    def _assign(self, account: str, principal: str) -> None:
        role = self._role(account, principal)
        if found(lambda: self._resources.get_by_id(role, api_version=_ROLE_API)) is not None:
            return
        definition = (
            f"/subscriptions/{self._azure.settings.azure_subscription}/providers"
            f"/Microsoft.Authorization/roleDefinitions/{_BLOB_DATA_CONTRIBUTOR}"
        )
        properties = {
            "roleDefinitionId": definition,
            "principalId": principal,
            # Without it Azure looks the principal up, which it does not know everywhere at first.
            "principalType": "ServicePrincipal",
        }
        self._put(role, {"properties": properties}, _ROLE_API)

    def _role(self, account: str, principal: str) -> str:
        scope = self._azure.names.id_of("Microsoft.Storage/storageAccounts", account)
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope.lower()} {principal}")
        return f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"

    def _put(self, resource: str, body: dict[str, Any], api_version: str) -> None:
        begin = self._resources.begin_create_or_update_by_id
        self._azure.operations.insist(
            lambda: begin(resource, body, api_version=api_version).result()
        )
