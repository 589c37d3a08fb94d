"""What our resources in Azure are called, and the tags that say which are ours.

Names follow from subscription, resource group and deployment alone, so that every run, from
wherever it comes, finds or makes the same ones. Only what carries our tags is ever deleted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bakery.errors import InputError
from bakery.settings import Settings

OWNER_TAG, OWNER = "managed-by", "mlflow-bakery"
DEPLOYMENT_TAG = "mlflow-bakery-deployment"
GENERATION_TAG = "mlflow-bakery-generation"
IMAGE_TAG = "mlflow-bakery-image"
ROLE_TAG = "mlflow-bakery-role"

Number = int | Literal["training"]
"""Which machine of a deployment: a generation's, or the training machine, which is none."""
TRAINING: Literal["training"] = "training"

_DNS_SUFFIX = {
    "public": "cloudapp.azure.com",
    "china": "cloudapp.chinacloudapi.cn",
    "usgov": "cloudapp.usgovcloudapi.net",
}


def subscription(settings: Settings) -> str:
    """Return the subscription that is set.

    Raises:
        InputError: None is.
    """
    if settings.azure_subscription is None:
        raise InputError(
            "no subscription is set",
            hint="export AZURE_SUBSCRIPTION_ID=$(az account show --query id --output tsv)",
        )
    return settings.azure_subscription


def group_id(settings: Settings) -> str:
    """Return the full id of the resource group."""
    return f"/subscriptions/{subscription(settings)}/resourceGroups/{settings.azure_resource_group}"


@dataclass(frozen=True)
class Names:
    """The names of one deployment's resources."""

    settings: Settings

    @property
    def id(self) -> str:
        """Six hexadecimal digits that no other deployment has, the same at every call."""
        words = [group_id(self.settings).lower(), self.settings.name]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:6]

    @property
    def account(self) -> str:
        """The storage account: the one that is set, else one that is made up."""
        if "storage_account" in self.settings.model_fields_set:
            return self.settings.storage_account
        return f"{self.settings.name.replace('-', '')[:18]}{self.id}"

    @property
    def dns_suffix(self) -> str:
        """What Azure's own host names of this region end with, dot first."""
        return f".{self.settings.azure_location}.{_DNS_SUFFIX[self.settings.azure_cloud]}"

    @property
    def hostname(self) -> str:
        """The public name: the one that is set, else one of Azure's."""
        made_up = f"{self.settings.name}-{self.id}{self.dns_suffix}"
        return self.settings.hostname or made_up

    @property
    def dns_label(self) -> str:
        """The label of the public address; also behind a name that is not Azure's."""
        if self.hostname.endswith(self.dns_suffix):
            return self.hostname.removesuffix(self.dns_suffix)
        return f"{self.settings.name}-{self.id}"

    @property
    def network(self) -> str:
        """The virtual network; its subnet is called `machines`."""
        return f"{self.settings.name}-vnet"

    @property
    def security_group(self) -> str:
        """The network security group of the subnet."""
        return f"{self.settings.name}-nsg"

    @property
    def address(self) -> str:
        """The public IP address."""
        return f"{self.settings.name}-ip"

    @property
    def training_network(self) -> str:
        """The virtual network of the training machine, with a subnet `machines` too."""
        return f"{self.settings.name}-{TRAINING}-vnet"

    @property
    def training_security_group(self) -> str:
        """The network security group of that subnet."""
        return f"{self.settings.name}-{TRAINING}-nsg"

    @property
    def training_address(self) -> str:
        """The public IP address of the training machine."""
        return f"{self.settings.name}-{TRAINING}-ip"

    @property
    def data_disk(self) -> str:
        """The first data disk; one made from a snapshot has another name, kept in the state."""
        return f"{self.settings.name}-data"

    @property
    def identity(self) -> str:
        """The identity of the machines, where they have one."""
        return f"{self.settings.name}-identity"

    def machine(self, number: Number) -> str:
        """Return the virtual machine of a generation, or the training machine."""
        return f"{self.settings.name}-{number}"

    def interface(self, number: Number) -> str:
        """Return a machine's network interface."""
        return f"{self.settings.name}-{number}-nic"

    def os_disk(self, number: Number) -> str:
        """Return the disk of a machine's operating system."""
        return f"{self.settings.name}-{number}-os"

    def snapshot(self, generation: int) -> str:
        """Return the snapshot that is taken before a generation gets the data disk."""
        return f"{self.settings.name}-before-{generation}"

    @property
    def owner_tags(self) -> dict[str, str]:
        """The tag that says that we made something, for whatever deployment."""
        return {OWNER_TAG: OWNER}

    def tags(self, number: Number | None = None) -> dict[str, str]:
        """Return the tags of this deployment's resources, or those of one machine of it."""
        tags = {OWNER_TAG: OWNER, DEPLOYMENT_TAG: self.settings.name}
        if number is None:
            return tags
        own = {ROLE_TAG: TRAINING} if number == TRAINING else {GENERATION_TAG: str(number)}
        return {**tags, **own}

    @staticmethod
    def generation(tags: Mapping[str, str] | None) -> int:
        """Return the generation that a resource's tags name; 0 when they name none."""
        value = (tags or {}).get(GENERATION_TAG, "")
        return int(value) if value.isdecimal() else 0

    @staticmethod
    def is_training(tags: Mapping[str, str] | None) -> bool:
        """Return whether a resource is the training machine's."""
        return (tags or {}).get(ROLE_TAG) == TRAINING

    def owns(self, tags: Mapping[str, str] | None) -> bool:
        """Return whether tags say that a resource is this deployment's."""
        return self.tags().items() <= dict(tags or {}).items()

    def id_of(self, kind: str, name: str) -> str:
        """Return a resource's full id; `kind` is such as Microsoft.Compute/disks."""
        return f"{group_id(self.settings)}/providers/{kind}/{name}"
