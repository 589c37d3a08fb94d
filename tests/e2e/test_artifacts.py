"""Artifacts of 2 GiB through the server: bounded memory, slow clients, what is cut off."""

import hashlib
import http.client
import os
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bakery.checks.client import client_python
from tests.e2e.bakery import Bakery, until

SIZE = 2 << 30
MIB = 1 << 20
SLOW_SECONDS = 70
"""Longer than the 60 s after which Traefik cuts a body, unless it is told otherwise."""
SLOW_READ_SECONDS = 15
"""Long enough for a server that does not wait for its client to have the file in memory."""
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
PAGES = "/get-artifact?path=weights.bin&run_uuid={run}"
"""By which MLflow's pages download."""

UPLOAD = "import sys, mlflow; mlflow.MlflowClient().log_artifact(*sys.argv[1:])"
DOWNLOAD = "import sys, mlflow; mlflow.MlflowClient().download_artifacts(*sys.argv[1:])"

# One line each half second: memory of all processes of MLflow's container (what they share counted
# once), of the disk that the spool lies on, of the data disk; in KiB. `du` would see nothing of a
# file that has no name.
WATCH = r"""
top=$(docker inspect --format "{{.State.Pid}}" mlflow-mlflow-1)
while sleep 0.5; do
  memory=$(for p in $top $(pgrep -P $top) $(pgrep -P $(pgrep -d, -P $top)); do
    cat /proc/$p/smaps_rollup 2>/dev/null; done | awk "/^Pss:/ {sum += \$2} END {print sum}")
  spool=$(df --output=used /var/lib/mlflow-spool | tail -1)
  data=$(df --output=used /var/lib/mlflow-data | tail -1)
  echo $memory $spool $data
done
"""


@dataclass
class Sizes:
    """What the machine used, in MiB: now, and the most that was seen."""

    memory: float = 0
    spool: float = 0
    data: float = 0
    most_memory: float = 0
    most_spool: float = 0
    most_data: float = 0

    def see(self, line: str) -> None:
        self.memory, self.spool, self.data = (int(word) / 1024 for word in line.split())
        self.most_memory = max(self.most_memory, self.memory)
        self.most_spool = max(self.most_spool, self.spool)
        self.most_data = max(self.most_data, self.data)


@contextmanager
def watched(server: Bakery) -> Iterator[Sizes]:
    """Watch what the machine uses."""
    process = server.start("ssh", "--command", f"sudo sh -c '{WATCH}'")
    sizes = Sizes()

    def read() -> None:
        for line in process.stdout or ():
            sizes.see(line)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        until(lambda: sizes.memory, seconds=60, what="the machine tells its memory")
        yield sizes
    finally:
        process.terminate()
        process.wait(timeout=60)
        thread.join()


@dataclass(frozen=True)
class Client:
    """MLflow's own client, in processes that can be killed."""

    python: Path
    folder: Path
    environment: dict[str, str]

    def start(self, script: str, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-c", script, *words],
            cwd=self.folder, env=self.environment, text=True, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ok(self, process: subprocess.Popen[str]) -> None:
        """Wait for a good end."""
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err


@pytest.fixture(scope="module")
def client(server: Bakery, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("client")
    own = {"HOME": str(folder), "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return Client(client_python(state / "cache"), folder, {**server.client(), **own})


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2 GiB in which no two MiB are the same; it takes hardly any disk."""
    path = tmp_path_factory.mktemp("big") / "weights.bin"
    with path.open("wb") as file:
        for offset in range(0, SIZE, MIB):
            file.seek(offset)
            file.write(os.urandom(64))
        file.truncate(SIZE)
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_run(server: Bakery) -> str:
    made = server.api("runs/create", "POST", json={"experiment_id": "0"})
    return str(made.json()["run"]["info"]["run_id"])


def listed(server: Bakery, run: str) -> dict[str, int]:
    files = server.api(f"artifacts/list?run_id={run}").json().get("files", [])
    return {one["path"]: int(one["file_size"]) for one in files}


def log_metric(server: Bakery, run: str) -> float:
    """Log a metric, as another client does meanwhile; the seconds that took."""
    started = time.monotonic()
    values = {"run_id": run, "key": "loss", "value": 1.0, "timestamp": 1, "step": 0}
    answer = server.api("runs/log-metric", "POST", json=values)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - started


def ask(server: Bakery, method: str, path: str, size: int = 0) -> http.client.HTTPSConnection:
    """Send the head of a request."""
    known = server.client()
    login = f"{known['MLFLOW_TRACKING_USERNAME']}:{known['MLFLOW_TRACKING_PASSWORD']}"
    trusted = ssl.create_default_context(cafile=known["MLFLOW_TRACKING_SERVER_CERT_PATH"])
    host = urlsplit(known["MLFLOW_TRACKING_URI"]).hostname or ""
    connection = http.client.HTTPSConnection(host, context=trusted, timeout=240)
    connection.putrequest(method, path)
    connection.putheader("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    return connection


def put_slowly(server: Bakery, path: str, seconds: int) -> tuple[int, float]:
    """Send a body, one piece a second; the status and the seconds that took."""
    connection = ask(server, "PUT", f"{PROXY}/{path}", seconds * 1000)
    started = time.monotonic()
    for _ in range(seconds):
        connection.send(b"x" * 1000)
        time.sleep(1)
    status = connection.getresponse().status
    return status, time.monotonic() - started


def get_slowly(server: Bakery, path: str, seconds: int) -> None:
    """Read a piece of an answer each second, then hang up."""
    answer = ask(server, "GET", path).getresponse()
    with closing(answer):
        assert answer.status == 200
        for _ in range(seconds):
            assert len(answer.read(1000)) == 1000
            time.sleep(1)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Show a measured number at the end of the run."""
    return lambda text: record_property("case", text)


def test_two_gib_up_and_down(
    server: Bakery, client: Client, big: Path, report: Callable[[str], None]
) -> None:
    run = new_run(server)
    there = client.folder / "weights.bin"
    with watched(server) as sizes:
        before = replace(sizes)

        def used() -> float:
            return sizes.spool - before.spool

        def emptied() -> None:
            # A copy from Blob that nobody waits for any more is made to its end.
            until(lambda: used() < 20, seconds=180, what="an empty spool")

        cut = client.start(UPLOAD, run, big)
        until(lambda: used() > 200, seconds=120, what="an upload under way")
        cut.kill()
        cut.communicate()
        emptied()
        assert listed(server, run) == {}

        with ThreadPoolExecutor() as pool:
            slow = pool.submit(put_slowly, server, f"0/{run}/artifacts/slow", SLOW_SECONDS)
            started = time.monotonic()
            again = client.start(UPLOAD, run, big)
            until(lambda: used() > 200, seconds=120, what="an upload under way")
            metric = log_metric(server, run)
            client.ok(again)
            up = time.monotonic() - started
            status, seconds = slow.result()
        assert status == 200
        assert seconds >= SLOW_SECONDS
        assert listed(server, run) == {"weights.bin": SIZE, "slow": SLOW_SECONDS * 1000}
        emptied()

        for path in (f"{PROXY}/0/{run}/artifacts/weights.bin", PAGES.format(run=run)):
            get_slowly(server, path, SLOW_READ_SECONDS)
            emptied()

        started = time.monotonic()
        client.ok(client.start(DOWNLOAD, run, "weights.bin", client.folder))
        down = time.monotonic() - started
        emptied()
    assert digest(there) == digest(big)
    spooled, memory = sizes.most_spool - before.spool, sizes.most_memory - before.memory
    report(
        f"2 GiB up in {up:.0f} s, down in {down:.0f} s; MLflow's memory {before.memory:.0f} MiB, "
        f"{memory:.0f} more at most; spool {spooled:.0f} MiB; a metric meanwhile {metric:.2f} s"
    )
    assert spooled > 0.95 * SIZE / MIB, "a body does lie in the spool on its way"
    assert memory < 300
    assert sizes.most_data - before.data < 200
