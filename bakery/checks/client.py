"""The round trip with the real MLflow client, in a virtual environment of its own."""

import json
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from bakery import virtualenv
from bakery.checks.result import CheckResult, measure, shorten
from bakery.env import client_variables
from bakery.run import last_lines, run
from bakery.targets.base import Server

REQUIREMENTS = Path(__file__).parents[2] / "images" / "client" / "requirements.txt"
_SCRIPT = Path(__file__).with_name("roundtrip.py")
_DEADLINE = 180


def round_trip(server: Server, *, cache: Path) -> list[CheckResult]:
    """Log a run with the MLflow client, read it back, find it in Blob, remove it."""
    installed = measure("MLflow client is there", lambda: str(client_python(cache)))
    if not installed.ok:
        return [installed]
    python = installed.detail
    access = {
        "account": server.blob.account,
        "container": server.blob.container,
        "key": server.blob.key.get_secret_value(),
        "endpoint": server.blob.endpoint,
    }
    # In a folder of its own: the client looks for a git repository around it and writes beside it.
    with tempfile.TemporaryDirectory(prefix="bakery-client-") as folder:
        done = run(
            [python, _SCRIPT],
            env=_environment(server, folder),
            cwd=Path(folder),
            stdin=json.dumps(access),
            check=False,
            timeout=_DEADLINE,
        )
    results = [CheckResult(**json.loads(line)) for line in done.stdout.splitlines()]
    short = [CheckResult(r.name, r.ok, shorten(r.detail), r.seconds) for r in results]
    if done.returncode != 0 and all(result.ok for result in short):
        reason = shorten(last_lines(done.stderr, 1))
        short.append(CheckResult("MLflow client", ok=False, detail=reason, seconds=0.0))
    return short


def client_python(cache: Path) -> Path:
    """Return the Python of the client's environment, made once for each lock and Python.

    Raises:
        BakeryError: It could not be installed.
    """
    return virtualenv.make(cache, "client", files=[REQUIREMENTS]) / "python"


def _environment(server: Server, home: str) -> dict[str, str]:
    past = (os.environ.get("NO_PROXY", ""), os.environ.get("no_proxy", ""))
    near = ",".join(
        filter(None, (*past, server.hostname, urlsplit(server.blob.endpoint).hostname or ""))
    )
    return client_variables(server, password=True) | {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
        "HOME": home,
        "NO_PROXY": near,
        "no_proxy": near,
    }
