"""The first thing a user does: clone, `./inv up`, log a run, destroy, `up` again."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery.checks import client
from tests.e2e.bakery import INVOKE, PROJECT, Bakery, traces


@pytest.fixture(scope="module")
def client_python(state: Path, image: str) -> Path:
    """A Python with the real MLflow client, as `check` keeps one."""
    return client.client_python(state / "cache")


LOG_A_RUN = """
import mlflow
mlflow.set_experiment("first")
with mlflow.start_run() as run:
    mlflow.log_param("alpha", 0.5)
    mlflow.log_metric("loss", 0.25)
    mlflow.log_text("kept", "note.txt")
print(run.info.run_id)
"""

READ_A_RUN = """
import sys, mlflow
client = mlflow.MlflowClient()
run = client.get_run(sys.argv[1])
path = client.download_artifacts(sys.argv[1], "note.txt")
print(run.data.params["alpha"], run.data.metrics["loss"], open(path).read())
"""


PROMISED = {
    "name", "target", "state", "url", "hostname", "address", "generation", "image", "username",
    "ca_file",
}  # fmt: skip


def as_a_user(bakery: Bakery, python: Path, script: str, *words: str) -> str:
    """Do what the README says: eval the environment in a shell, then use a plain client."""
    command = f'eval "$({INVOKE[0]} --search-root {PROJECT} env)" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", str(python), "-c", script, *words],
        env=bakery.environment, check=False, text=True, capture_output=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_up_log_destroy_and_up_again(
    make_bakery: Callable[..., Bakery], client_python: Path, state: Path
) -> None:
    bakery = make_bakery()
    first = bakery.ok("up", "--base", "debian-13")
    for said in ("https://", "url", "user", "--show-password", 'eval "$(./inv env', "done in"):
        assert said in first.said
    status = bakery.status()
    assert status["state"] == "ready"
    assert set(status) >= PROMISED
    run_id = as_a_user(bakery, client_python, LOG_A_RUN)
    network = bakery.facts["network"]["name"]
    assert traces(network), "the probe finds a running deployment"

    bakery.ok("destroy")
    assert traces(network) == []
    assert traces(str(bakery.folder)) == []

    bakery.ok("up", "--base", "debian-13")
    assert as_a_user(bakery, client_python, READ_A_RUN, run_id) == "0.5 0.25 kept"


def test_the_same_again_bakes_nothing(server: Bakery) -> None:
    assert "nothing to bake" in server.ok("bake", "--base", "debian-13").err


def test_the_password_is_where_it_is_said_to_be(server: Bakery) -> None:
    password = json.loads((server.folder / "secrets.json").read_text())["password"]
    assert server.client()["MLFLOW_TRACKING_PASSWORD"] == password
    assert (server.folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert password not in server.ok("status").said
    assert password not in server.ok("deploy").said


def test_a_second_deploy_has_nothing_to_do(server: Bakery) -> None:
    before = server.status()["generation"]
    assert "nothing to do" in server.ok("deploy").err
    assert server.status()["generation"] == before


def test_check_passes_and_fails_when_something_is_wrong(server: Bakery) -> None:
    assert "checks passed" in server.ok("check").err
    server.ssh("docker stop mlflow-traefik-1")
    done = server.run("check")
    server.ssh("docker start mlflow-traefik-1")
    assert done.code == 1
    assert "checks failed" in done.err


def test_the_look_at_a_candidate_passes_a_good_machine_and_no_other(server: Bakery) -> None:
    """On Azure this script decides whether an image counts."""
    script = base64.b64encode((PROJECT / "packer" / "check-candidate.sh").read_bytes()).decode()
    look = f"echo {script} | base64 -d | sudo bash"
    assert server.ok("ssh", "--command", look).out.splitlines()[-1] == "candidate ok"
    server.ok("ssh", "--command", "sudo systemd-run --quiet --wait --unit=broken false || true")
    said = server.run("ssh", "--command", look)
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("candidate failed: units have failed: broken")
    server.ok("ssh", "--command", "sudo systemctl reset-failed broken")


def test_logs_of_every_service(server: Bakery) -> None:
    for service, said in {
        "mysql": "ready for connections",
        "mlflow": "Uvicorn running",
        "traefik": "Starting provider",
        "migrate": "schema",
        "machine": "mlflow.service",
    }.items():
        assert said in server.ok("logs", "--service", service, "--lines", "4000").out, service


def test_stop_and_start(server: Bakery) -> None:
    before = server.ok("env", "--json")
    assert "not ready" not in before.err
    server.ok("stop")
    assert server.status()["state"] == "stopped"
    server.refused("check")
    # A client's file may be written before the server serves, but not without a word.
    after = server.ok("env", "--json")
    assert after.out == before.out
    assert "is not ready; ./inv status tells more" in after.err
    server.ok("start")
    assert server.status()["state"] == "ready"


def test_two_machines_of_one_image_differ(
    server: Bakery, make_bakery: Callable[..., Bakery]
) -> None:
    other = make_bakery()
    other.ok("deploy")
    for command in (
        "cat /etc/machine-id",
        "cat /etc/ssh/ssh_host_ed25519_key.pub",
        "docker info --format {{.ID}}",
        "cat /var/lib/mlflow-data/mysql/data/auto.cnf",
        "cat /var/lib/mlflow-data/secrets/mysql-password",
    ):
        ours = server.ssh(command)
        assert ours.strip()
        assert ours != other.ssh(command), command


def test_a_new_generation_keeps_the_runs(server: Bakery) -> None:
    made = server.api("experiments/create", "POST", json={"name": "kept"})
    assert made.status_code == 200, made.text
    before = server.status()
    server.ok("deploy", "--replace")
    after = server.status()
    assert after["generation"] == before["generation"] + 1
    assert after["state"] == "ready"
    assert (after["url"], after["address"]) == (before["url"], before["address"])
    found = server.api("experiments/get-by-name?experiment_name=kept")
    assert found.status_code == 200, found.text


def test_deployments_side_by_side_do_not_share_a_name(
    server: Bakery, make_bakery: Callable[..., Bakery]
) -> None:
    done = make_bakery(BAKERY_HOSTNAME=server.status()["hostname"]).refused("deploy")
    assert "another line in /etc/hosts" in done.err
