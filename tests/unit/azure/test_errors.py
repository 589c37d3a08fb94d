"""Azure's errors: one line with the code, what it means here, and what to do."""

import json
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from azure.core.pipeline.policies import RetryPolicy
from azure.identity import CredentialUnavailableError
from azure.mgmt.core.exceptions import ARMErrorFormat

from bakery.azure import errors
from bakery.errors import BakeryError, InputError


class Answer:
    """As much of an HTTP answer as the SDK looks at when it makes an error of it."""

    reason = "Conflict"
    content_type = "application/json"

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {}
        self._body = json.dumps({"error": {"code": code, "message": message}})

    def text(self, _encoding: str | None = None) -> str:
        return self._body

    def body(self) -> bytes:
        return self._body.encode()


def refused(
    status: int,
    code: str,
    message: str = "Azure's own words.",
    kind: type[HttpResponseError] = HttpResponseError,
) -> HttpResponseError:
    answer: Any = Answer(status, code, message)
    return kind(response=answer, error_format=ARMErrorFormat)


def seen(error: AzureError) -> BakeryError:
    with pytest.raises(BakeryError) as caught, errors.explained("create the machine"):
        raise error
    return caught.value


@pytest.mark.parametrize("code", sorted(errors.MEANINGS))
def test_each_code_is_one_line_with_the_code_and_a_next_step(code: str) -> None:
    found = seen(refused(409, code))
    wanted = errors.MEANINGS[code]
    assert str(found) == f"create the machine: {wanted.text} ({code})"
    assert "\n" not in str(found)
    assert found.hint == wanted.hint
    assert found.tail == "Azure's own words."


def test_no_two_families_say_the_same() -> None:
    texts = {one.text for one in errors.MEANINGS.values()}
    assert len(texts) > 25


@pytest.mark.parametrize(
    ("error", "words", "kind"),
    [
        (CredentialUnavailableError("Please run 'az login'"), "not logged in", InputError),
        (ClientAuthenticationError("AADSTS700082: The refresh token"), "expired", InputError),
        (refused(404, "SubscriptionNotFound"), "does not know this subscription", InputError),
        (refused(401, "ExpiredAuthenticationToken"), "login has expired", InputError),
        (refused(409, "MissingSubscriptionRegistration"), "not registered", BakeryError),
        (refused(409, "OperationNotAllowed", "... exceeding approved"), "quota", BakeryError),
        (refused(409, "OperationNotAllowed"), "does not allow this now", BakeryError),
        (refused(409, "SkuNotAvailable"), "size is not available", BakeryError),
        (refused(409, "StorageAccountAlreadyTaken"), "belongs to somebody else", BakeryError),
        (refused(403, "RequestDisallowedByPolicy"), "a policy", BakeryError),
        (refused(403, "KeyBasedAuthenticationNotPermitted"), "keys may not", BakeryError),
        (refused(400, "DnsRecordInUse"), "somebody else has this host name", BakeryError),
        (refused(400, "PublicIPAddressCannotBeDeleted"), "still in use", BakeryError),
        (refused(409, "AttachDiskWhileBeingDetached"), "still attached", BakeryError),
        (refused(429, "NicReservedForAnotherVm"), "within 180 s", BakeryError),
        (refused(429, "SomethingNew"), "too many calls", BakeryError),
        (refused(403, "SomethingNew"), "lacks a right", BakeryError),
        (refused(400, "SomethingNew"), "could not do it (SomethingNew)", BakeryError),
        (ServiceRequestError("Connection refused"), "cannot be reached", BakeryError),
    ],
)
def test_what_is_said(error: AzureError, words: str, kind: type[BakeryError]) -> None:
    found = seen(error)
    assert type(found) is kind
    assert words in str(found)
    assert found.hint


def test_a_failed_long_operation_is_told_by_its_code_too() -> None:
    error = refused(200, "AllocationFailed", "We do not have sufficient capacity")
    assert "no machine of this size" in str(seen(error))


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), errors.explained("divide"):
        raise ZeroDivisionError
    with pytest.raises(InputError, match="ours"), errors.explained("anything"):
        raise InputError("ours")


def test_the_sdk_still_repeats_what_we_rely_on() -> None:
    assert {429, 500, 503} <= set(RetryPolicy._RETRY_CODES)
    assert AzureNamedKeyCredential("a", "b").named_key.name == "a"
