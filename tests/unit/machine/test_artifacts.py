"""What the store's client does when nobody answers."""

import subprocess
import sys

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
