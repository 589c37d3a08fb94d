"""Azure's errors for people: one line with Azure's code, what it means here, what to do next."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bakery.errors import BakeryError, InputError

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError


@dataclass(frozen=True)
class Meaning:
    """What one of Azure's codes means here."""

    text: str
    hint: str
    refused: bool = False
    """Nothing can have been made: bad input or something missing."""


_LOG_IN = "az login; or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET of a principal"
_AGAIN = "the same command again goes on where this one ended"
_QUOTA = Meaning(
    "the subscription's quota does not allow it",
    "ask for more in the portal (Quotas), or set another azure_vm_sizes (azure_training_sizes for"
    " a training machine) or azure_location",
)
_NO_CAPACITY = Meaning(
    "the region has no machine of this size to give now",
    "set another size in azure_vm_sizes (azure_training_sizes for a training machine), or try"
    " again later",
)
_KEYS_FORBIDDEN = Meaning(
    "the account's keys may not be used here",
    'azure_artifact_access = "identity" works without keys',
)
_EXPIRED = Meaning("the login has expired", "az login, then the same command again", refused=True)
_RIGHTS = Meaning(
    "the login lacks a right",
    "the role Contributor on the resource group; for an identity also the right to assign roles",
)
_TAKEN = Meaning(
    "the storage account's name belongs to somebody else", "set another storage_account"
)
_IP_IN_USE = Meaning(
    "the public address is still in use by a network interface",
    "run it again; if it stays: ./inv status shows what has it",
)
_DISK = Meaning("the disk is still attached to a machine, or just being detached", _AGAIN)

_NO_TRUST = Meaning(
    "the application does not trust the token of this workflow",
    "it needs a federated credential whose subject is this one's (Azure's own words name it): one"
    " for the branch, and one for the environment of the job that deploys",
    refused=True,
)

# In the order of search: what stands in an error's text wins over its code.
_IN_TEXT = {
    "AADSTS700082": _EXPIRED,
    "AADSTS50173": _EXPIRED,
    "AADSTS70043": _EXPIRED,
    "AADSTS7000222": Meaning(
        "the principal's secret has expired", "make a new one, set AZURE_CLIENT_SECRET", True
    ),
    "AADSTS7000215": Meaning("the principal's secret is wrong", "check AZURE_CLIENT_SECRET", True),
    "AADSTS700024": Meaning("the job's token was too old", _AGAIN, refused=True),
    "AADSTS70021": _NO_TRUST,
    "AADSTS90002": Meaning("there is no such tenant", "check AZURE_TENANT_ID", True),
    "exceeding approved": _QUOTA,
}
MEANINGS = {
    "ExpiredAuthenticationToken": _EXPIRED,
    "AuthenticationFailed": Meaning("the login or key was not accepted", _LOG_IN, refused=True),
    "InvalidAuthenticationToken": Meaning("the login was not accepted", _LOG_IN, refused=True),
    "InvalidAuthenticationTokenTenant": Meaning(
        "the login is for another tenant than the subscription's",
        "set azure_tenant, or az login --tenant",
        refused=True,
    ),
    "SubscriptionNotFound": Meaning(
        "the login does not know this subscription",
        "az account list shows those it knows; set azure_subscription",
        refused=True,
    ),
    "InvalidSubscriptionId": Meaning(
        "this is no subscription's id", "az account show --query id", refused=True
    ),
    "ReadOnlyDisabledSubscription": Meaning(
        "the subscription is disabled", "enable it in the portal, or set another", refused=True
    ),
    "MissingSubscriptionRegistration": Meaning(
        "the subscription is not registered for this kind of resource",
        "./inv deploy registers it; where that is not allowed: az provider register --namespace",
    ),
    "AuthorizationFailed": _RIGHTS,
    "LinkedAuthorizationFailed": _RIGHTS,
    "AuthorizationPermissionMismatch": Meaning(
        "the login has no right on the account's blobs",
        "the role Storage Blob Data Contributor on the account",
    ),
    "QuotaExceeded": _QUOTA,
    "PublicIPCountLimitReached": _QUOTA,
    "IPv4StandardSkuPublicIpCountLimitReached": _QUOTA,
    "IPv4BasicSkuPublicIpCountLimitReached": _QUOTA,
    "StorageAccountQuotaReached": _QUOTA,
    "SkuNotAvailable": Meaning(
        "the size is not available to this subscription in this region",
        "set another one in azure_vm_sizes (azure_training_sizes for a training machine), or"
        " another azure_location",
    ),
    "AllocationFailed": _NO_CAPACITY,
    "ZonalAllocationFailed": _NO_CAPACITY,
    "OverconstrainedAllocationRequest": _NO_CAPACITY,
    "StorageAccountAlreadyTaken": _TAKEN,
    "StorageAccountAlreadyExists": _TAKEN,
    "AlreadyExists": _TAKEN,
    "AccountNameInvalid": Meaning("Azure refuses the account's name", "set another"),
    "DnsRecordInUse": Meaning(
        "somebody else has this host name", "set another hostname, or leave it out"
    ),
    "RequestDisallowedByPolicy": Meaning(
        "a policy of your organisation forbids it (Azure's own words below name it)",
        'if it is about keys: azure_artifact_access = "identity"; else ask who set the policy',
    ),
    "KeyBasedAuthenticationNotPermitted": _KEYS_FORBIDDEN,
    "PublicIPAddressCannotBeDeleted": _IP_IN_USE,
    "PublicIPAddressInUse": _IP_IN_USE,
    "AttachDiskWhileBeingDetached": _DISK,
    "DiskBeingAttached": _DISK,
    "CannotAttachDiskInUse": _DISK,
    "ConflictingUserInput": _DISK,
    "NicReservedForAnotherVm": Meaning(
        "the network interface is reserved for a machine that was deleted; that ends within 180 s",
        "the same command again, in three minutes",
    ),
    "NicInUse": Meaning("the network interface is still in use by a machine", _AGAIN),
    "InUseSubnetCannotBeDeleted": Meaning("something is still in the subnet", _AGAIN),
    "PrincipalNotFound": Meaning("the new identity is not known everywhere yet", _AGAIN),
    "PropertyChangeNotAllowed": Meaning(
        "a machine cannot be changed in this way", "./inv deploy --replace makes a new one"
    ),
    "OSProvisioningTimedOut": Meaning(
        "the machine did not report in time that it had booted", "./inv deploy --replace"
    ),
    "ScopeLocked": Meaning("a lock on the resource forbids it", "az lock list shows it"),
    "ResourceGroupBeingDeleted": Meaning(
        "the resource group is being deleted", "wait for that to end, then again"
    ),
    "LocationNotAvailableForResourceType": Meaning(
        "the region does not have this kind of resource", "set another azure_location"
    ),
    "InvalidResourceGroupLocation": Meaning(
        "the resource group is in another region", "set azure_location to that one", refused=True
    ),
    "GalleryImageNotFound": Meaning("the image is not in the gallery", "./inv images"),
    "ImageVersionNotFound": Meaning("the image is not in the gallery", "./inv images"),
    "TooManyRequests": Meaning("too many calls in a short time, also after some waiting", _AGAIN),
    "OperationNotAllowed": Meaning("Azure does not allow this now", _AGAIN),
}
_BY_STATUS = {
    401: Meaning("the login was not accepted", _LOG_IN, refused=True),
    403: _RIGHTS,
    404: Meaning("something is not there that should be", "./inv status; ./inv deploy mends it"),
    409: Meaning("something else is being done to it, or it is as it may not be", _AGAIN),
    412: Meaning("somebody else has changed it meanwhile", _AGAIN),
    429: MEANINGS["TooManyRequests"],
}
_DEFAULT = Meaning("Azure could not do it", _AGAIN)
_NOT_LOGGED_IN = Meaning("not logged in to Azure", _LOG_IN, refused=True)
_UNREACHABLE = Meaning("Azure cannot be reached", "check the network and proxy, then again")


def code(error: "AzureError") -> str:
    """Return Azure's own code of an error, the innermost one; empty where there is none."""
    details = getattr(error, "error", None)
    inner = getattr(details, "code", None) or getattr(error, "error_code", None)
    return str(getattr(inner, "value", inner) or "")


def is_quota(error: "AzureError") -> bool:
    """Return whether the subscription's quota is what stands in the way."""
    return meaning(error) is _QUOTA


def meaning(error: "AzureError") -> Meaning:
    """Return what an error means here."""
    from azure.core import exceptions

    text = str(error)
    for words, found in _IN_TEXT.items():
        if words in text:
            return found
    found_by_code = MEANINGS.get(code(error))
    if found_by_code:
        return found_by_code
    if isinstance(error, exceptions.ClientAuthenticationError):
        return _NOT_LOGGED_IN if error.status_code is None else _BY_STATUS[401]
    if isinstance(error, exceptions.HttpResponseError):
        return _BY_STATUS.get(error.status_code or 0, _DEFAULT)
    return _UNREACHABLE


def told(what: str, error: "AzureError") -> BakeryError:
    """Return an error of Azure as one for people; `what` was being done."""
    found = meaning(error)
    kind = InputError if found.refused else BakeryError
    name = code(error) or str(getattr(error, "status_code", None) or type(error).__name__)
    return kind(f"{what}: {found.text} ({name})", hint=found.hint, tail=_words(error))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn Azure's errors into ours; also a decorator.

    Raises:
        InputError: The login, the subscription or a setting is refused.
        BakeryError: Azure failed otherwise.
    """
    try:
        yield
    except Exception as error:
        # Asked here, since the SDK takes its time to be imported.
        from azure.core.exceptions import AzureError

        if not isinstance(error, AzureError):
            raise
        raise told(what, error) from error


def _words(error: "AzureError") -> str:
    """Return Azure's own words, without the SDK's frame around them."""
    details = getattr(error, "error", None)
    text = str(getattr(details, "message", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"\s+", " ", " ".join(lines))[:600]
