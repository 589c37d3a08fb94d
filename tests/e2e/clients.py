"""Clients that go on while the server is replaced: what they were told, how long they waited."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import requests
from requests.auth import HTTPBasicAuth

from tests.e2e.bakery import Bakery


@dataclass
class Probe:
    """Makes a run every 50 ms without any retry, and remembers which ones it was told of."""

    bakery: Bakery
    told: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    away: float = 0
    """Seconds between the last answer before the longest break and the first one after it."""

    def __enter__(self) -> "Probe":
        self._ended = threading.Event()
        self._client = self.bakery.client()
        made = self.bakery.api("experiments/create", "POST", json={"name": f"probe {time.time()}"})
        self._experiment = made.json()["experiment_id"]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def missing(self) -> list[str]:
        """Return the runs that it was told of and that are not there."""
        there: set[str] = set()
        token = ""
        while True:
            body = {"experiment_ids": [self._experiment], "max_results": 5000, "page_token": token}
            found = self.bakery.api("runs/search", "POST", json=body).json()
            there |= {run["info"]["run_id"] for run in found.get("runs", [])}
            token = found.get("next_page_token", "")
            if not token:
                return [run for run in self.told if run not in there]

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(0.05):
            answer = self._ask()
            self.answers[answer] += 1
            if answer == "200":
                now = time.monotonic()
                self.away, last = max(self.away, now - last), now

    def _ask(self) -> str:
        client = self._client
        login = HTTPBasicAuth(
            client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]
        )
        try:
            answer = requests.post(
                f"{client['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/create",
                json={"experiment_id": self._experiment, "start_time": 1},
                auth=login, verify=client["MLFLOW_TRACKING_SERVER_CERT_PATH"], timeout=20,
            )  # fmt: skip
        except requests.RequestException as error:
            return type(error).__name__
        if answer.status_code == 200:
            self.told.append(answer.json()["run"]["info"]["run_id"])
        elif answer.status_code == 503 and "Retry-After" not in answer.headers:
            self.without_retry_after += 1
        return str(answer.status_code)
