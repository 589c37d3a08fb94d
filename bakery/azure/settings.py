"""The settings of the Azure target; Azure's own rules for names are checked here, all at once."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

_GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
LETS_ENCRYPT = {
    "production": "https://acme-v02.api.letsencrypt.org/directory",
    "staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}


def _guid(value: str) -> str:
    if not re.fullmatch(_GUID, value):
        raise ValueError("must be an id such as 00000000-0000-0000-0000-000000000000")
    return value.lower()


def _resource_group(value: str) -> str:
    if not re.fullmatch(r"[-\w.()]{1,90}", value) or value.endswith("."):
        raise ValueError("must be 1 to 90 letters, digits and -_.(), not ending with a dot")
    return value


def _location(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{2,40}", value):
        raise ValueError("must be a region's short name such as westeurope")
    return value


def _sizes(value: str) -> str:
    sizes = words(value)
    if not sizes or not all(re.fullmatch(r"[A-Za-z]+_[A-Za-z0-9_-]{1,60}", size) for size in sizes):
        raise ValueError("must be sizes such as Standard_B2s, the first to try first, with commas")
    return ", ".join(sizes)


def _sources(value: str) -> str:
    ranges = []
    for word in words(value):
        try:
            found = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"{word} is no address and no range such as 203.0.113.0/24") from None
        if found.prefixlen == 0:
            raise ValueError(f"{word} is everybody: name the ranges that may reach SSH")
        ranges.append(str(found))
    return ", ".join(ranges)


def _gallery(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]{0,79}", value) or value.endswith("."):
        raise ValueError("must be 1 to 80 of letters, digits, '_' and '.', as Azure wants")
    return value


def _email(value: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value):
        raise ValueError("must be a mail address")
    return value


def _directory(value: str) -> str:
    if value not in LETS_ENCRYPT and not re.fullmatch(r"https://[^\s/]+(/\S*)?", value):
        raise ValueError("must be production, staging or the https:// URL of an ACME directory")
    return value


def _https(value: str) -> str:
    if not re.fullmatch(r"https://[^\s/]+(/\S*)?", value):
        raise ValueError("must begin with https://: a token never goes over a plain connection")
    return value.rstrip("/")


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def has_gpu(size: str) -> bool:
    """Return whether machines of a size have a GPU: those of the N series do."""
    return re.match(r"[A-Za-z]+_N", size) is not None


def words(value: str) -> list[str]:
    """Return the parts of a setting that lists several things with commas."""
    return [word for word in re.split(r"[,\s]+", value) if word]


class AzureSettings(BaseModel):
    """What only the Azure target reads; names begin with `azure_` or `acme_`."""

    azure_subscription: Annotated[str, AfterValidator(_guid)] | None = Field(
        default=None, description="The subscription's id; `az account show --query id` tells it."
    )
    azure_tenant: Annotated[str, AfterValidator(_guid)] | None = Field(
        default=None, description="The tenant to sign in to. Unset: the login's own."
    )
    azure_resource_group: Annotated[str, AfterValidator(_resource_group)] = Field(
        default="mlflow-bakery", description="The resource group; made when it is not there."
    )
    azure_location: Annotated[str, AfterValidator(_location)] = Field(
        default="westeurope", description="The region, by its short name."
    )
    azure_vm_sizes: Annotated[str, AfterValidator(_sizes)] = Field(
        default="Standard_B2s, Standard_B2als_v2, Standard_B2ls_v2",
        description="Sizes of the machine; the next is tried where one is not available.",
    )
    azure_gpu: bool = Field(
        default=False,
        description="Bake NVIDIA's driver and container toolkit in, for training machines.",
    )
    azure_training_sizes: Annotated[str, AfterValidator(_sizes)] = Field(
        default="Standard_NC4as_T4_v3, Standard_NC8as_T4_v3, Standard_NC16as_T4_v3",
        description="Sizes of the training machine, as of azure_vm_sizes.",
    )
    azure_training_disk_gib: Annotated[int, Field(ge=30, le=4095)] = Field(
        default=128,
        description="Size of the training machine's disk, which holds containers and their data.",
    )
    azure_ssh_sources: Annotated[str, AfterValidator(_sources)] | None = Field(
        default=None,
        description="Address ranges that may reach SSH. Unset: nobody; Run Command is used.",
    )
    azure_artifact_access: Literal["key", "identity"] = Field(
        default="key",
        description=(
            "How the machine reaches Blob: the account's key, or an identity of its own and no "
            "key anywhere (needs the right to assign roles)."
        ),
    )
    azure_gallery: Annotated[str, AfterValidator(_gallery)] = Field(
        default="mlflow_bakery", description="The compute gallery that images are baked into."
    )
    azure_address_service: Annotated[str, AfterValidator(_https)] = Field(
        default="https://api.ipify.org",
        description="Tells this host's public address, which may reach the machine of a bake.",
    )
    azure_prices_url: Annotated[str, AfterValidator(_https)] = Field(
        default="https://prices.azure.com/api/retail/prices",
        description="Azure's public list of retail prices, for `cost`.",
    )
    azure_cloud: Literal["public", "china", "usgov"] = Field(
        default="public", description="Which of Azure's clouds."
    )
    azure_base_url: Annotated[str, AfterValidator(_https)] | None = Field(
        default=None, description="The control plane's URL. Unset: the cloud's."
    )
    azure_authority: Annotated[str, AfterValidator(_https)] | None = Field(
        default=None, description="The sign-in service's URL. Unset: the cloud's."
    )
    azure_ca_bundle: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="Authorities (PEM) that sign those two, when not public ones."
    )
    azure_polling_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        default=5.0, description="The pause between two looks at a long operation."
    )
    azure_retry_seconds: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.8,
        description="The pause before a failed call is repeated; it doubles.",
    )
    acme_email: Annotated[str, AfterValidator(_email)] | None = Field(
        default=None, description="Whom Let's Encrypt may write to; may be left out."
    )
    acme_directory: Annotated[str, AfterValidator(_directory)] = Field(
        default="production",
        description="Who signs: Let's Encrypt's `production` or `staging`, or a directory's URL.",
    )
    acme_ca: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="The authority (PEM) of the directory's own HTTPS, if not public."
    )
    acme_root: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="The authority (PEM) of the certificates it signs, if not public."
    )
