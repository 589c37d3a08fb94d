"""Long operations: waited for, taken up again after a kill, repeated only where that is safe."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from bakery.azure.operations import Operations, found
from tests.unit.azure.test_errors import refused


class Kept:
    """Where tokens are remembered."""

    def __init__(self, **tokens: str) -> None:
        self.now = tokens
        self.seen: list[dict[str, str]] = []

    def tokens(self) -> dict[str, str]:
        return dict(self.now)

    def save_tokens(self, tokens: dict[str, str]) -> None:
        self.now = dict(tokens)
        self.seen.append(dict(tokens))


class Poller:
    """One operation."""

    def __init__(self, result: Any, *, done: bool = False) -> None:
        self._result, self._done = result, done

    def done(self) -> bool:
        return self._done

    def continuation_token(self) -> str:
        return "token-1"

    def result(self) -> Any:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class Azure:
    """Begins operations, and notes with which token."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.tokens: list[str | None] = []

    def begin(self, continuation_token: str | None = None) -> Any:
        self.tokens.append(continuation_token)
        result = self.results.pop(0)
        if isinstance(result, HttpResponseError) and result.status_code != 200:
            raise result
        return Poller(result)


def operations(kept: Kept, others: Azure | None = None) -> Operations:
    made = Operations(0)
    made.remember_in(kept, (others or Azure()).begin)
    return made


def test_the_token_is_kept_while_the_operation_runs_and_no_longer() -> None:
    kept, azure = Kept(), Azure("made")
    assert operations(kept).run("create x", azure.begin) == "made"
    assert kept.seen == [{"create x": "token-1"}, {}]


def test_what_was_begun_is_waited_for_and_not_begun_again() -> None:
    kept, azure = Kept(**{"create x": "token-0", "other": "token-9"}), Azure("made")
    assert operations(kept).run("create x", azure.begin) == "made"
    assert azure.tokens == ["token-0"]
    assert kept.now == {"other": "token-9"}


def test_what_was_begun_and_failed_is_begun_anew() -> None:
    kept = Kept(**{"create x": "token-0"})
    azure = Azure(refused(200, "AllocationFailed"), "made")
    assert operations(kept).run("create x", azure.begin) == "made"
    assert azure.tokens == ["token-0", None]


def test_nothing_is_begun_at_a_resource_before_what_was_begun_there_has_ended() -> None:
    kept = Kept(**{"create x": "token-0", "create y": "token-9"})
    azure, others = Azure("stopped"), Azure("made")
    assert operations(kept, others).run("stop x", azure.begin) == "stopped"
    assert others.tokens == ["token-0"]
    assert azure.tokens == [None]
    assert kept.now == {"create y": "token-9"}


def test_all_that_a_run_of_before_has_begun_is_waited_for_whether_it_failed_or_not() -> None:
    kept = Kept(**{"create x": "token-0", "attach y": "token-1", "delete z": "token-2"})
    others = Azure(refused(200, "AllocationFailed"), refused(404, "NotFound"), "done")
    operations(kept, others).finish_left()
    assert others.tokens == ["token-0", "token-1", "token-2"]
    assert kept.now == {}


def test_what_passes_by_itself_is_tried_again() -> None:
    busy = ("AttachDiskWhileBeingDetached", "ConflictingConcurrentWriteNotAllowed")
    azure = Azure(*[refused(409, code) for code in busy], "made")
    assert operations(Kept()).run("attach x", azure.begin) == "made"
    assert azure.tokens == [None] * 3


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "SkuNotAvailable"), (403, "AuthorizationFailed"), (400, "InvalidParameter"),
     (200, "AllocationFailed")],
)  # fmt: skip
def test_what_does_not_pass_is_told_at_once(status: int, code: str) -> None:
    azure = Azure(refused(status, code), "made")
    with pytest.raises(HttpResponseError):
        operations(Kept()).run("create x", azure.begin)
    assert azure.tokens == [None]


def test_what_never_passes_is_told_in_the_end() -> None:
    azure = Azure(*[refused(409, "NicReservedForAnotherVm")] * 100)
    with pytest.raises(HttpResponseError):
        operations(Kept()).run("create x", azure.begin)
    assert 5 <= len(azure.tokens) < 100


def test_only_what_is_not_there_counts_as_missing() -> None:
    def missing() -> str:
        raise ResourceNotFoundError

    def wrong_subscription() -> str:
        raise refused(404, "SubscriptionNotFound", kind=ResourceNotFoundError)

    assert found(missing) is None
    assert found(lambda: "there") == "there"
    with pytest.raises(ResourceNotFoundError):
        found(wrong_subscription)
