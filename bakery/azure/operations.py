"""Long operations of Azure: waited for, repeated where safe, taken up again after a kill."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from bakery.azure.errors import code

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

T = TypeVar("T")

# Another operation is under way, or the last one has not sunk in everywhere: it passes by itself.
_PASSING = {
    "AnotherOperationInProgress",
    "AttachDiskWhileBeingDetached",
    "Conflict",
    "InUseSubnetCannotBeDeleted",
    "NicInUse",
    "NicReservedForAnotherVm",
    "OperationPreempted",
    "PrincipalNotFound",
    "PublicIPAddressCannotBeDeleted",
    "ReferencedResourceNotProvisioned",
    "ResourceGroupBeingDeleted",
    "RetryableError",
}
_PATIENCE = 200
"""Seconds: a network interface stays reserved for 180."""


class Tokens(Protocol):
    """Where the tokens of operations under way are remembered."""

    def tokens(self) -> dict[str, str]:
        """Return every token by the name of its operation."""

    def save_tokens(self, tokens: dict[str, str]) -> None:
        """Remember them."""


class Operations:
    """Runs long operations; the token of one that was cut off lets the next run wait for it."""

    def __init__(self, pause: float) -> None:
        """Take the pause between two tries, in seconds."""
        self._pause = pause
        self._kept: Tokens | None = None

    def remember_in(self, kept: Tokens) -> None:
        """Keep tokens from now on."""
        self._kept = kept

    def run(self, name: str, begin: "Callable[..., LROPoller[T]]") -> T:
        """Begin an operation, or take up the one that was begun under this name, and wait for it.

        Raises:
            AzureError: It failed.
        """
        token = self._tokens.get(name)
        if token is not None:
            from azure.core.exceptions import AzureError

            self._forget(name)
            try:
                return begin(continuation_token=token).result()
            except (AzureError, ValueError):
                pass  # long gone, or it failed: what is wanted now is begun anew
        return self.insist(lambda: self._watched(name, begin()))

    def insist(self, call: Callable[[], T]) -> T:
        """Repeat a call while Azure is busy with something else that passes by itself.

        Raises:
            AzureError: It failed otherwise, or for too long.
        """
        attempts = int(_PATIENCE / self._pause) if self._pause >= 1 else 20
        retrying = Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_fixed(max(self._pause, 0.05)),
            stop=stop_after_attempt(max(attempts, 5)),
            reraise=True,
        )
        return retrying(call)

    def _watched(self, name: str, poller: "LROPoller[T]") -> T:
        if not poller.done() and self._kept is not None:
            self._kept.save_tokens({**self._tokens, name: poller.continuation_token()})
            result = poller.result()
            self._forget(name)
            return result
        return poller.result()

    @property
    def _tokens(self) -> dict[str, str]:
        return self._kept.tokens() if self._kept else {}

    def _forget(self, name: str) -> None:
        left = {key: one for key, one in self._tokens.items() if key != name}
        if self._kept is not None:
            self._kept.save_tokens(left)


def _passes(error: BaseException) -> bool:
    from azure.core.exceptions import HttpResponseError

    if not isinstance(error, HttpResponseError):
        return False
    return code(error) in _PASSING


def found(get: Callable[[], T]) -> T | None:
    """Return what a call gives, or None where Azure says that it is not there.

    Raises:
        AzureError: It failed otherwise.
    """
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    try:
        return get()
    except HttpResponseError as error:
        # Nothing can be there of a kind that the subscription was never registered for.
        if code(error) == "MissingSubscriptionRegistration":
            return None
        missing = isinstance(error, ResourceNotFoundError)
        if not missing or code(error) in {"SubscriptionNotFound", "InvalidSubscriptionId"}:
            raise
        return None


def as_dict(model: Any, *, writable: bool = False) -> dict[str, Any]:
    """Return one of the SDK's models as it goes over the wire; `writable`: what one may send."""
    plain: dict[str, Any] = json.loads(json.dumps(model.as_dict(exclude_readonly=writable)))
    return plain
