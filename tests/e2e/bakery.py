"""Runs the real command line on a state folder and names of the tests' own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

PROJECT = Path(__file__).parents[2]
INVOKE = [str(Path(sys.executable).with_name("invoke")), "--search-root", str(PROJECT)]
_CHECK_TABLES = """
ask() { docker exec --interactive mlflow-mysql-1 \\
    mysql --defaults-file=/run/secrets/client.cnf --skip-column-names mlflow; }
echo "SELECT CONCAT('CHECK TABLE \\`', table_name, '\\`;') FROM information_schema.tables
    WHERE table_schema = 'mlflow' AND table_type = 'BASE TABLE'" | ask | ask
"""


@dataclass
class Done:
    """A verb that ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass
class Bakery:
    """One deployment, driven as a user drives it."""

    state: Path
    name: str
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BAKERY_", "MLFLOW_"))}
        return {
            **kept,
            "BAKERY_STATE_DIR": str(self.state),
            "BAKERY_NAME": self.name,
            "COLUMNS": "200",
            **self.extra,
        }

    def start(self, *words: str, stdin: Path = Path(os.devnull)) -> subprocess.Popen[str]:
        """Start a verb and do not wait for it."""
        with stdin.open("rb") as file:
            return subprocess.Popen(
                # It ends with the tests, however they end.
                ["setpriv", "--pdeathsig", "TERM", *INVOKE, *words],
                env=self.environment, cwd=PROJECT, text=True,
                stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str, timeout: float = 900) -> Done:
        """Run a verb to its end."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            out, err = process.communicate(timeout=60)
            raise AssertionError(f"{words} did not end in {timeout} s:\n{out}{err}") from None
        return Done(process.returncode, out, err)

    def ok(self, *words: str, timeout: float = 900) -> Done:
        """Run a verb that must end well."""
        done = self.run(*words, timeout=timeout)
        assert done.code == 0, done.said
        return done

    def refused(self, *words: str, timeout: float = 120) -> Done:
        """Run a verb that must end with exit code 2, one line and no traceback."""
        done = self.run(*words, timeout=timeout)
        assert done.code == 2, done.said
        assert "Traceback" not in done.said, done.said
        assert "error: " in done.err, done.said
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.ok("status", "--json").out))

    def client(self) -> dict[str, str]:
        """What `env` gives a client."""
        return dict(json.loads(self.ok("env", "--json").out))

    def ssh(self, command: str) -> str:
        """Run a command in the machine as root."""
        done = self.run("ssh", "--command", f"sudo {command}")
        assert done.code == 0, done.said
        return done.out

    def session(self) -> requests.Session:
        """Return what asks the server over HTTPS with the right login, again and again."""
        client = self.client()
        made = requests.Session()
        made.trust_env = False  # its CA bundle would win over ours
        made.verify = client["MLFLOW_TRACKING_SERVER_CERT_PATH"]
        made.auth = HTTPBasicAuth(
            client["MLFLOW_TRACKING_USERNAME"].encode(),
            client["MLFLOW_TRACKING_PASSWORD"].encode(),
        )
        return made

    def url(self, path: str) -> str:
        """Return the address of a call of MLflow's API."""
        return f"https://{self.facts['hostname']}/api/2.0/mlflow/{path}"

    def artifact(self, path: str) -> str:
        """Return the address of an artifact."""
        return f"https://{self.facts['hostname']}/api/2.0/mlflow-artifacts/artifacts/{path}"

    def api(self, path: str, method: str = "GET", **given: Any) -> requests.Response:
        """Ask the server over HTTPS with the right login."""
        with self.session() as client:
            return client.request(method, self.url(path), timeout=30, **given)

    def tables_are_whole(self) -> None:
        """See that MySQL finds no fault in any table."""
        lines = self.ssh(f"sh -c {shlex.quote(_CHECK_TABLES)}").splitlines()
        assert len(lines) > 50, lines
        assert [line for line in lines if not line.endswith("OK")] == []

    def destroy(self) -> None:
        self.ok("destroy", "--with-data", "--yes")

    @property
    def folder(self) -> Path:
        return self.state / "deployments" / self.name

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "deployment.json").read_text()))


def supervisor(bakery: Bakery, generation: int) -> int:
    """Return the process that all of a machine's processes end with."""
    record = bakery.folder / "machines" / str(generation) / "supervisor.pid"
    return int(record.read_text().split()[0])


def newest(bakery: Bakery) -> int:
    """Return the number of the machine that serves, or that is about to."""
    facts = bakery.facts
    return int(((facts["pending"] or {}).get("generation") or facts["generation"])["number"])


def crash(bakery: Bakery) -> None:
    """Kill every process of the newest machine at once."""
    os.kill(supervisor(bakery, newest(bakery)), signal.SIGKILL)


def inside(
    bakery: Bakery, command: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as root in the newest machine, without the command line."""
    hosts = bakery.folder / "machines" / str(newest(bakery)) / "known_hosts"
    host = hosts.read_text().split()[0]
    words = [
        "ssh", "-F", "none", "-i", str(bakery.folder / "ssh/id_ed25519"),
        "-o", f"UserKnownHostsFile={hosts}",
        "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", f"bakery@{host}", f"sudo {command}",
    ]  # fmt: skip
    return subprocess.run(words, check=False, capture_output=True, text=True, input=stdin or "")


def reached(bakery: Bakery, test: str) -> bool:
    """Return whether a test holds in the machine of a deploy that is under way."""
    try:
        return inside(bakery, f"sh -c {shlex.quote(test)}").returncode == 0
    except (FileNotFoundError, TypeError, IndexError):
        return False  # there is none yet


def until(ready: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Wait until something is so, and return it; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def traces(owner: str) -> list[str]:
    """Return what a state folder or a deployment has on this host: links, mounts, loops, rules.

    `owner` is part of each one's name: a network's name, or a path.
    """
    looks = {
        "link": ["ip", "-brief", "link"],
        "mount": ["cat", "/proc/mounts"],
        "loop": ["losetup", "--noheadings", "--output", "NAME,BACK-FILE"],
        "nft": ["nft", "list", "tables"],
        "hosts": ["cat", "/etc/hosts"],
        "process": ["ps", "-ww", "-eo", "args"],
    }
    found = []
    for kind, words in looks.items():
        out = subprocess.run(words, check=True, text=True, capture_output=True).stdout
        found += [f"{kind}: {line}" for line in out.splitlines() if owner in line]
    return [line for line in found if "pytest" not in line]


def loops(state: Path, disk: str) -> list[str]:
    """Return the loop devices on the disk files of a state folder whose names begin so.

    Also those whose file is deleted, or lies in a mount that cannot be seen from here.
    """
    pool = state.absolute() / "pool"
    held = losetup("--associated", str(state.absolute() / "pool.xfs"))
    # Where the state folder's own file system holds the disks, there is no pool.xfs.
    places = {str(one["maj:min"]).strip() for one in held} or {device_of(pool)}
    files = {
        str(one["name"]): str(one["back-file"]).removesuffix(" (deleted)")
        for one in losetup()
        if str(one["back-maj:min"]).strip() in places
    }
    return [f"{name} {file}" for name, file in files.items() if Path(file).name.startswith(disk)]


def losetup(*words: str) -> list[dict[str, Any]]:
    columns = "NAME,MAJ:MIN,BACK-MAJ:MIN,BACK-FILE"
    done = subprocess.run(
        ["losetup", "--list", "--json", "--output", columns, *words],
        check=True, text=True, capture_output=True,
    )  # fmt: skip
    return list(json.loads(done.stdout or '{"loopdevices": []}')["loopdevices"])


def device_of(path: Path) -> str:
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Give a file back its content afterwards."""
    before = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(before)
