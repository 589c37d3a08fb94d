"""What breaks: a clear line, nothing lost, and it heals."""

import contextlib
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

from bakery import network, pool
from bakery.checks.client import client_python
from tests.e2e.bakery import PROJECT, Bakery, kept, traces, until

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


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (["mkfs.vfat", "-n", "FOREIGN"], "it has vfat"),
        (["mkfs.ext4", "-q", "-U", "00000000-0000-4000-8000-000000000000"], "it has ext4 0000"),
    ],
    ids=["foreign", "of another deployment"],
)
def test_a_data_disk_that_is_not_ours_is_refused_and_untouched(
    make_bakery: Callable[..., Bakery], state: Path, make: list[str], said: str
) -> None:
    bakery = make_bakery()
    with pool.opened(state.absolute()) as disks:
        disk = disks / "data" / f"{bakery.name}.raw"
        disk.parent.mkdir(exist_ok=True)
        with disk.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run([*make, disk], check=True, capture_output=True)
        before = digest(disk)
        refused = bakery.refused("deploy")
        assert said in refused.err
        assert "was not touched" in refused.err
        assert digest(disk) == before
        disk.unlink()
    assert "no deployment is called" in bakery.refused("status").err, "nothing was made"


def test_an_image_that_is_not_there(server: Bakery) -> None:
    before = server.facts
    assert "no image is called nope" in server.refused("deploy", "--image", "nope").err
    assert server.facts == before


def test_an_image_with_an_older_mysql_than_the_data(server: Bakery) -> None:
    image = server.status()["image"]
    path = server.folder / "deployment.json"
    with kept(path):
        facts = server.facts
        facts["generation"] |= {"image": "one-of-later", "mysql": "99.0.0"}
        path.write_text(json.dumps(facts))
        refused = server.refused("deploy", "--image", image)
        assert server.facts["generation"] == facts["generation"]
        assert server.facts["pending"] is None
    assert "older MySQL cannot read them" in refused.err
    assert server.status()["state"] == "ready"


def test_the_nearest_name_is_shown(server: Bakery) -> None:
    near = server.name[:-1] + "x"
    refused = Bakery(server.state, near).refused("status")
    assert f"no deployment is called {near}" in refused.err
    assert server.name in refused.err


def host_dies(server: Bakery) -> None:
    """End all that a reboot of the host ends: machines, Azurite, the network."""
    for record in server.folder.glob("machines/*/supervisor.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(record.read_text().split()[0]), signal.SIGKILL)
    os.kill(int((server.folder / "azurite" / "azurite.pid").read_text().split()[0]), signal.SIGKILL)
    network.take_down(server.facts["network"]["name"])


def test_a_host_that_reboots_in_the_middle_of_a_replacement(server: Bakery) -> None:
    made = server.api("experiments/create", "POST", json={"name": "before the reboot"})
    assert made.status_code == 200, made.text
    image = server.status()["image"]
    process = server.start("deploy", "--image", image, "--replace")
    until(
        lambda: (server.facts["pending"] or {}).get("step") not in {None, "create"},
        seconds=180,
        what="the old generation gives way",
    )
    os.killpg(process.pid, signal.SIGKILL)
    host_dies(server)
    process.communicate(timeout=60)
    assert server.status()["state"] == "stopped"
    server.ok("start")
    status = server.status()
    assert (status["state"], status["pending"]) == ("ready", None)
    found = server.api("experiments/get-by-name?experiment_name=before the reboot")
    assert found.status_code == 200, found.text
    server.tables_are_whole()


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
