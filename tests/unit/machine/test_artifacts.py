"""What the store's client does when nobody answers, and how long an answer is kept open."""

import subprocess
import sys
from collections.abc import Iterator

import artifacts
import pytest

from tests.unit.machine.samples import ROOT

LOOK = """
from azure.storage.blob import BlobServiceClient, ExponentialRetry
import artifacts
def waits():
    text = "AccountName=a;AccountKey=aaaa;BlobEndpoint=http://127.0.0.1:1/a"
    client = BlobServiceClient.from_connection_string(text)
    retry = next(p for p in client._pipeline._impl_policies if isinstance(p, ExponentialRetry))
    settings = [{"count": count} for count in range(1, retry.total_retries + 1)]
    return sum(retry.initial_backoff + retry.increment_base ** one["count"] for one in settings)
before = waits()
artifacts.give_up_soon()
print(before, waits())
"""


def test_the_store_s_client_gives_up_soon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK], check=True, text=True, capture_output=True,
        env={"PYTHONPATH": str(ROOT / "compose/mlflow")},
    )  # fmt: skip
    before, after = map(int, done.stdout.split())
    assert before > 60, "the control: by itself it takes longer than a minute"
    assert after < 20


class Answer:
    """What a WSGI application answers with: pieces, and something to be closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_answer_is_closed_however_its_reading_ends(pieces: int) -> None:
    answer = Answer()
    reading = iter(artifacts._closing(lambda *_: answer)({}, None))
    assert b"".join(next(reading) for _ in range(pieces)) == b"ab"[:pieces]
    assert not answer.closed
    del reading
    assert answer.closed


def test_an_answer_that_cannot_be_closed_is_passed_on() -> None:
    assert list(artifacts._closing(lambda *_: [b"a"])({}, None)) == [b"a"]
