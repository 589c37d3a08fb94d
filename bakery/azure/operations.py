"""Long operations of Azure: waited for, repeated where safe, taken up again after a kill."""

import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from bakery.azure.errors import code
from bakery.log import step

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

T = TypeVar("T")

# Another operation is under way, or the last one has not sunk in everywhere: it passes by itself.
_PASSING = {
    "AnotherOperationInProgress",
    "AttachDiskWhileBeingDetached",
    "Conflict",
    "ConflictingConcurrentWriteNotAllowed",
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
        self._resume: Callable[[str], LROPoller[Any]] | None = None

    def remember_in(self, kept: Tokens, resume: "Callable[[str], LROPoller[Any]]") -> None:
        """Keep tokens from now on; `resume` gives the poller of any of them."""
        self._kept, self._resume = kept, resume

    def finish_left(self) -> None:
        """Wait for what a run that was cut off has begun; whether it fails is seen by who looks.

        Nothing may be begun at a resource before, and what is there tells nothing either.
        """
        for name, token in self._tokens.items():
            with step(f"Wait for what was begun before: {name}"):
                self._end(name, token)

    def run(self, name: str, begin: "Callable[..., LROPoller[T]]") -> T:
        """Begin an operation and wait for it; what was begun at its resource ends first.

        The name is a verb and the resource's name. One that was begun under this very name, and
        did not fail, is not begun again.

        Raises:
            AzureError: It failed.
        """
        from azure.core.exceptions import AzureError

        resource = name.rsplit(maxsplit=1)[-1]
        for left, token in self._tokens.items():
            if left.split()[-1] != resource:
                continue
            if left != name:
                self._end(left, token)
                continue
            self._forget(left)
            with contextlib.suppress(AzureError, ValueError):
                return begin(continuation_token=token).result()
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

    def _end(self, name: str, token: str) -> None:
        from azure.core.exceptions import AzureError

        # It may have failed, or be long gone.
        with contextlib.suppress(AzureError, ValueError):
            if self._resume is not None:
                self._resume(token).result()
        self._forget(name)

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
