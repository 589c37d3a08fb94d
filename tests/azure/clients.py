"""The real SDK's clients against a fake, as a test that needs no product opens them."""

import functools
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenCredential
from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient

if TYPE_CHECKING:
    from tests.azure.fake import Fake


class Token:
    """A login that costs nothing."""

    def __init__(self, fake: "Fake") -> None:
        self._fake = fake

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        del scopes, options
        token, end = self._fake.tokens.issue(self._fake.tenant, self._fake.options.token_seconds)
        return AccessToken(token, int(end))

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        del options
        token = self.get_token(*scopes)
        return AccessTokenInfo(token.token, token.expires_on)


class Clients:
    """The four clients and what they are made with."""

    def __init__(self, fake: "Fake", *, secret: str = "") -> None:
        """Make them: with the secret of a principal, or signed in already."""
        self._fake = fake
        self.credential: TokenCredential = Token(fake)
        if not secret:
            return
        self.credential = ClientSecretCredential(
            fake.tenant, "app", secret, authority=fake.url, disable_instance_discovery=True,
            connection_verify=str(fake.ca_file),
        )  # fmt: skip

    @property
    def values(self) -> dict[str, Any]:
        return {
            "credential": self.credential, "subscription_id": self._fake.subscription,
            "base_url": self._fake.url, "connection_verify": str(self._fake.ca_file),
            "polling_interval": 0, "retry_backoff_factor": 0.01,
            "credential_scopes": ["https://management.azure.com/.default"],
        }  # fmt: skip

    @functools.cached_property
    def compute(self) -> ComputeManagementClient:
        return ComputeManagementClient(**self.values)

    @functools.cached_property
    def network(self) -> NetworkManagementClient:
        return NetworkManagementClient(**self.values)

    @functools.cached_property
    def storage(self) -> StorageManagementClient:
        return StorageManagementClient(**self.values)

    @functools.cached_property
    def resource(self) -> ResourceManagementClient:
        return ResourceManagementClient(**self.values)
