"""The real SDK's clients against a fake, as a test that needs no product opens them."""

import functools
from typing import TYPE_CHECKING, Any

from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient

if TYPE_CHECKING:
    from tests.azure.fake import Fake


class Clients:
    """The four clients and what they are made with."""

    def __init__(self, fake: "Fake", secret: str = "any") -> None:
        self._fake = fake
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
