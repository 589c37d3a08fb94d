"""The one place where Azure's clients are made; each is imported when it is first used.

Bodies are dicts as they go over the wire (camelCase): the SDK sends a dict as it is.
"""

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from bakery.azure import github
from bakery.azure.names import subscription
from bakery.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
    from azure.core.polling import LROPoller
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient
    from azure.mgmt.storage import StorageManagementClient
    from azure.storage.blob import BlobServiceClient

_CLOUDS = {
    "public": "AZURE_PUBLIC_CLOUD",
    "china": "AZURE_CHINA_CLOUD",
    "usgov": "AZURE_US_GOVERNMENT",
}
_AUTHORITIES = {
    "public": "https://login.microsoftonline.com",
    "china": "https://login.partner.microsoftonline.cn",
    "usgov": "https://login.microsoftonline.us",
}
_EARLY = 300
"""Seconds before its end that a token is not used any more."""


class Login:
    """Signs in once for all clients: each would ask anew, and `az` takes a second each time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens: dict[tuple[str, ...], AccessTokenInfo] = {}

    def get_token_info(
        self, *scopes: str, options: "TokenRequestOptions | None" = None
    ) -> "AccessTokenInfo":
        """Return a token that is valid for some minutes at least.

        Raises:
            ClientAuthenticationError: No way of signing in works.
        """
        token = self._tokens.get(scopes)
        challenged = options is not None and bool(options.get("claims"))
        if token is None or challenged or token.expires_on - time.time() < _EARLY:
            token = self._credential.get_token_info(*scopes, options=self._options(options))
            self._tokens[scopes] = token
        return token

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Return the same in the older form, which Blob's client asks for.

        Raises:
            ClientAuthenticationError: No way of signing in works.
        """
        from azure.core.credentials import AccessToken

        named = {name: one for name, one in options.items() if name in {"claims", "tenant_id"}}
        token = self.get_token_info(*scopes, options=cast("TokenRequestOptions", named))
        return AccessToken(token.token, token.expires_on)

    def _options(self, given: "TokenRequestOptions | None") -> "TokenRequestOptions":
        found: TokenRequestOptions = {**given} if given else {}
        if self._settings.azure_tenant:
            found.setdefault("tenant_id", self._settings.azure_tenant)
        return found

    @cached_property
    def _credential(self) -> Any:
        from azure.identity import ClientAssertionCredential, DefaultAzureCredential

        settings = self._settings
        own: dict[str, Any] = {
            "authority": settings.azure_authority or _AUTHORITIES[settings.azure_cloud],
            "additionally_allowed_tenants": ["*"],
        }
        if settings.azure_authority:
            # Only Microsoft's own clouds are in the directory that would be asked.
            own["disable_instance_discovery"] = True
        if settings.azure_ca_bundle:
            own["connection_verify"] = str(settings.azure_ca_bundle)
        if github.signs_in(settings):
            return ClientAssertionCredential(func=github.token, **github.principal(settings), **own)
        # `az` often takes longer than the usual 10 s.
        return DefaultAzureCredential(process_timeout=30, **own)


class Clients:
    """Azure's clients for one subscription."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.login = Login(settings)
        # What went wrong is said once, by us.
        logging.getLogger("azure").setLevel(logging.CRITICAL)

    @cached_property
    def resources(self) -> "ResourceManagementClient":
        """Resource groups, providers, and anything by its id."""
        from azure.mgmt.resource.resources import ResourceManagementClient

        return ResourceManagementClient(self.login, self._subscription, **self._options)

    @cached_property
    def compute(self) -> "ComputeManagementClient":
        """Machines, disks, snapshots, galleries."""
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient(self.login, self._subscription, **self._options)

    @cached_property
    def network(self) -> "NetworkManagementClient":
        """Networks, interfaces, public addresses."""
        from azure.mgmt.network import NetworkManagementClient

        return NetworkManagementClient(self.login, self._subscription, **self._options)

    @cached_property
    def storage(self) -> "StorageManagementClient":
        """Storage accounts and their containers."""
        from azure.mgmt.storage import StorageManagementClient

        return StorageManagementClient(self.login, self._subscription, **self._options)

    def blobs(self, endpoint: str, account: str, key: str | None) -> "BlobServiceClient":
        """Return a client of a storage account's Blob service; without a key, by our login."""
        from azure.storage.blob import BlobServiceClient, LinearRetry

        credential: Any = {"account_name": account, "account_key": key} if key else self.login
        bundle = self._settings.azure_ca_bundle
        own: dict[str, Any] = {"connection_verify": str(bundle)} if bundle else {}
        pause: Any = 2 * self._settings.azure_retry_seconds
        retry = LinearRetry(backoff=pause, retry_total=5, random_jitter_range=0)
        return BlobServiceClient(
            endpoint,
            credential=credential,
            retry_policy=retry,
            connection_timeout=10,
            **own,
        )

    def taken_up(self, token: str) -> "LROPoller[None]":
        """Return the poller of an operation of Compute that was begun before, whatever it was."""
        # With a token nothing is begun, so that the names are not used.
        machines: Any = self.compute.virtual_machines
        return cast("LROPoller[None]", machines.begin_start("", "", continuation_token=token))

    def call(
        self, method: str, path: str, *, api_version: str, body: Mapping[str, Any] | None = None
    ) -> Any:
        """Call what no client covers, and return the answer's JSON; None when it has none.

        Raises:
            HttpResponseError: Azure refuses.
        """
        from azure.core.rest import HttpRequest

        request = HttpRequest(method, path, params={"api-version": api_version}, json=body)
        # Through the pipeline of a client: its login, its retries.
        response = self.resources.send_request(request)
        response.raise_for_status()
        return response.json() if response.text() else None

    @property
    def _subscription(self) -> str:
        return subscription(self._settings)

    @cached_property
    def _options(self) -> dict[str, Any]:
        from azure.core import AzureClouds

        settings = self._settings
        found: dict[str, Any] = {
            "cloud_setting": AzureClouds[_CLOUDS[settings.azure_cloud]],
            "polling_interval": settings.azure_polling_seconds,
            "retry_total": 5,
            "retry_backoff_factor": settings.azure_retry_seconds,
            "user_agent": "mlflow-bakery",
        }
        if settings.azure_base_url:
            found["base_url"] = settings.azure_base_url
        if settings.azure_ca_bundle:
            found["connection_verify"] = str(settings.azure_ca_bundle)
        return found
