"""What breaks: a clear line, nothing lost, and it heals."""

import hashlib
import ipaddress
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests

from bakery import pool
from bakery.checks.client import client_python
from tests.e2e.bakery import PROJECT, Bakery, traces, until

READY = "experiments/search?max_results=1"


def health(bakery: Bakery) -> int:
    client = bakery.client()
    ca = client["MLFLOW_TRACKING_SERVER_CERT_PATH"]
    return requests.get(
        f"{client['MLFLOW_TRACKING_URI']}/health", verify=ca, timeout=30
    ).status_code


def test_readiness_fails_while_the_database_is_down_and_heals(server: Bakery) -> None:
    assert server.api(READY).status_code == 200
    server.ssh("docker stop mlflow-mysql-1")
    assert until(lambda: server.api(READY).status_code >= 500, seconds=60, what="5xx")
    assert health(server) == 200, "MLflow's own health knows nothing of the database"
    assert server.status()["state"] == "not ready"
    server.ssh("docker start mlflow-mysql-1")
    until(lambda: server.api(READY).status_code == 200, seconds=90, what="healed")


# Into which 20 MiB fit beside what the spool leaves to the system.
FILL = r"""
free=$(df --output=avail --block-size=1 / | tail -n 1)
fallocate --length $((free - (1 << 30) - (20 << 20))) /var/tmp/filled
"""
UPLOAD = """
import json, mlflow
answers = {}
with mlflow.start_run():
    for megabytes in (10, 30):
        try:
            mlflow.log_text("x" * (megabytes << 20), f"{megabytes}.txt")
            answers[megabytes] = "ok"
        except Exception as error:
            answers[megabytes] = str(error)
    mlflow.log_metric("loss", 0.25)
print(json.dumps(answers))
"""


def uploads(bakery: Bakery, state: Path) -> dict[str, str]:
    """Log a run with two artifacts and a metric, and return how the uploads ended."""
    python = client_python(state.absolute() / "cache")
    done = subprocess.run(
        [python, "-c", UPLOAD], env={**os.environ, **bakery.client()},
        check=False, text=True, capture_output=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_full_spool_fails_that_upload_only(server: Bakery, state: Path) -> None:
    server.ssh(f"sh -c {shlex.quote(FILL)}")
    try:
        full = uploads(server, state)
        spooled = server.ssh("find /var/lib/mlflow-spool -type f").split()
    finally:
        server.ssh("rm /var/tmp/filled")
    assert full["10"] == "ok", full
    assert "507" in full["30"], full
    assert "spool is full" in full["30"], full
    assert spooled == []
    assert uploads(server, state) == {"10": "ok", "30": "ok"}


def supervisor(bakery: Bakery, generation: int = 1) -> int:
    record = bakery.folder / "machines" / str(generation) / "supervisor.pid"
    return int(record.read_text().split()[0])


def test_a_machine_that_crashes_serves_again_with_its_runs(server: Bakery) -> None:
    made = server.api("experiments/create", "POST", json={"name": "before the crash"})
    assert made.status_code == 200, made.text
    os.kill(supervisor(server, server.status()["generation"]), signal.SIGKILL)
    until(lambda: server.status()["state"] == "stopped", seconds=30, what="stopped")
    server.ok("start")
    found = server.api("experiments/get-by-name?experiment_name=before the crash")
    assert found.status_code == 200, found.text


DATA = "/var/lib/mlflow-data"
MOMENTS = {
    "the data disk is there": f"mountpoint -q {DATA}",
    "MySQL makes its data directory": f"test -d {DATA}/mysql/data.unfinished",
    "the schema is being made": f"grep -qs first {DATA}/state/*",
    "the server starts": "test -e /run/mlflow-bakery/migration/done",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_first_boot_killed_at_any_moment_comes_up_on_the_next(
    moment: str, make_bakery: Callable[..., Bakery]
) -> None:
    bakery = make_bakery()
    process = bakery.start("deploy")
    try:
        until(lambda: reached(bakery, MOMENTS[moment]), seconds=120, what=moment)
        os.kill(supervisor(bakery), signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=60)
    bakery.ok("deploy")
    assert bakery.status()["state"] == "ready"
    assert bakery.api("experiments/create", "POST", json={"name": "x"}).status_code == 200
    bakery.destroy()


def reached(bakery: Bakery, test: str) -> bool:
    """Look into the first machine of a deploy that is under way, without the command line."""
    if not (bakery.folder / "known_hosts").exists():
        return False
    host = (bakery.folder / "known_hosts").read_text().split()[0]
    words = [
        "ssh", "-F", "none", "-i", str(bakery.folder / "ssh/id_ed25519"),
        "-o", f"UserKnownHostsFile={bakery.folder / 'known_hosts'}",
        "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", f"bakery@{host}", f"sudo sh -c '{test}'",
    ]  # fmt: skip
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_data_disk_with_a_foreign_file_system_is_refused_and_untouched(
    make_bakery: Callable[..., Bakery], state: Path
) -> None:
    bakery = make_bakery(BAKERY_DATA_DISK_GIB="1")
    with pool.opened(state.absolute()) as disks:
        disk = disks / "data" / f"{bakery.name}.raw"
        disk.parent.mkdir(exist_ok=True)
        with disk.open("wb") as file:
            file.truncate(1 << 30)
        subprocess.run(["mkfs.vfat", "-n", "FOREIGN", disk], check=True, capture_output=True)
        before = digest(disk)
        assert "vfat" in bakery.refused("deploy").err
        assert digest(disk) == before


def test_a_machine_that_never_boots_shows_its_console(make_bakery: Callable[..., Bakery]) -> None:
    bakery = make_bakery(BAKERY_BOOT_SECONDS="1")
    done = bakery.run("deploy")
    assert done.code == 1, done.said
    assert "did not answer over SSH within 1 s" in done.err
    assert "console.log" in done.err
    assert traces(f"machines/{bakery.name}") == []


def test_a_busy_port_is_named(server: Bakery) -> None:
    server.ok("stop")
    process = int((server.folder / "azurite" / "azurite.pid").read_text().split()[0])
    os.kill(process, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{process}").exists(), seconds=15, what="Azurite ended")
    with closing(socket.socket()) as planted:
        planted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        planted.bind((gateway_of(server), 10000))
        planted.listen()
        done = server.refused("start")
        assert f"{gateway_of(server)}:10000 is busy" in done.err
    server.ok("start")


def gateway_of(server: Bakery) -> str:
    return str(ipaddress.ip_network(server.facts["network"]["subnet"])[1])


def test_a_full_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    try:
        done = Bakery(small / "state", "x").refused("bake", "--base", "debian-13")
        assert "GiB free" in done.err
        assert "BAKERY_STATE_DIR" in done.err
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_missing_tool_with_installing_refused(tmp_path: Path) -> None:
    """A PATH without skopeo: the command to run is printed, nothing is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"):
        for tool in Path(place).glob("*"):
            link = folder / tool.name
            if tool.name != "skopeo" and not link.exists():
                link.symlink_to(tool)
    done = subprocess.run(
        [PROJECT / "inv", "bake"], check=False, text=True, capture_output=True,
        env={**os.environ, "PATH": str(folder), "BAKERY_INSTALL": "no"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "apt-get install" in done.stderr
    assert "skopeo" in done.stderr
