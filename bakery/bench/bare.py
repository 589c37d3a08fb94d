"""A bare `mlflow server` on SQLite, on this host: what the baked server is compared with."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import uv

from bakery.checks.door import READY
from bakery.errors import BakeryError
from bakery.run import environment, run, tail

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# As compose.yaml has it; the default is 4 workers and the executors of jobs.
OURS = {
    "MLFLOW_WORKERS": "2",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
}
_DEADLINE = 300


def full_client(cache: Path, version: str) -> Path:
    """Return the folder of an environment with all of MLflow, made once."""
    place = cache / "bench" / f"mlflow-{version}-python{sys.version_info.minor}"
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        tool = uv.find_uv_bin()
        run([tool, "venv", "--quiet", "--no-project", "--python", sys.executable, place])
        python = place / "bin" / "python"
        run([tool, "pip", "install", "--quiet", "--python", python, f"mlflow=={version}"])
        with _server(place, {}) as ready:
            # Once unmeasured: the first start compiles all modules.
            ready()
        (place / "done").touch()
    return place


def seconds_to_ready(place: Path, settings: dict[str, str]) -> float:
    """Start a server on an empty database and return the seconds until it answers from it."""
    with _server(place, settings) as ready:
        return ready()


def pip_install(version: str) -> float:
    """Return the seconds of what building an MLflow image mostly is: `pip install`, uncached."""
    with tempfile.TemporaryDirectory(prefix="bakery-bench-") as folder:
        started = time.monotonic()
        run([sys.executable, "-m", "venv", folder], timeout=_DEADLINE)
        words = ["install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
        python = Path(folder) / "bin" / "python"
        packages = [f"mlflow=={version}", "PyMySQL", "azure-storage-blob", "azure-identity"]
        run([python, "-m", "pip", *words, *packages], timeout=4 * _DEADLINE)
        return time.monotonic() - started


@contextmanager
def _server(place: Path, settings: dict[str, str]) -> Iterator["Ready"]:
    with tempfile.TemporaryDirectory(prefix="bakery-bench-") as folder:
        port = _free_port()
        log = Path(folder) / "server.log"
        words = [
            *(str(place / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", f"{folder}/artifacts"),
        ]
        started = time.monotonic()
        with (
            log.open("wb") as output,
            subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(_QUIET | settings),
                cwd=folder,
            ) as process,
        ):
            try:
                yield Ready(f"http://127.0.0.1:{port}{READY}", started, process, log)
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


class Ready:
    """Waits for one server."""

    def __init__(
        self, url: str, started: float, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        self.url = url
        self.started = started
        self.process = process
        self.log = log

    def __call__(self) -> float:
        """Return the seconds from the start to the first answer from the database.

        Raises:
            BakeryError: The server ended, or did not answer within the deadline.
        """
        while self.process.poll() is None and time.monotonic() < self.started + _DEADLINE:
            try:
                if requests.get(self.url, timeout=10).status_code == 200:
                    return time.monotonic() - self.started
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise BakeryError("the bare mlflow server did not become ready", tail=tail(self.log))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
