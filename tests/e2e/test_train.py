"""Training against one deployment: on this host, in a container, on the training machine.

There need be no Docker on this host: `--where docker` takes the training machine's, brought here
as a socket of this host.
"""

import ipaddress
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.storage.blob import ContainerClient
from requests.auth import HTTPBasicAuth

from tests.e2e.bakery import INVOKE, Bakery, traces, until
from tests.e2e.test_passwords import PASSWORDS

WAITING = Path(__file__).parent / "waiting"
"""A project that logs a metric and goes on when its run is told to."""


@dataclass
class Lab:
    """A deployment and its training machine."""

    bakery: Bakery
    docker_host: str
    """Its Docker over SSH."""
    socket: str
    """The same as one of this host."""
    login: list[str | Path]
    """The words that log in to the training machine."""
    client: dict[str, str] = field(default_factory=dict)

    def train(self, *words: str) -> str:
        """Run a project that must end well and return the id of its run."""
        link = self.bakery.ok("train", *words).out.strip()
        assert link.startswith(f"{self.client['MLFLOW_TRACKING_URI']}/#/experiments/")
        return link.rpartition("/")[2]

    def ask(self, path: str, method: str = "GET", **given: Any) -> Any:
        """Ask the server's API; None when there is no such thing."""
        login = [self.client[f"MLFLOW_TRACKING_{one}"].encode() for one in ("USERNAME", "PASSWORD")]
        answer = requests.request(
            method,
            f"{self.client['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{path}",
            auth=HTTPBasicAuth(*login),
            verify=self.client["MLFLOW_TRACKING_SERVER_CERT_PATH"],
            timeout=30,
            **given,
        )
        assert answer.status_code in {200, 404}, answer.text
        return answer.json() if answer.status_code == 200 else None

    def post(self, path: str, **values: object) -> Any:
        found = self.ask(path, "POST", json=values)
        assert found is not None, path
        return found

    def run(self, run_id: str) -> Any:
        return self.ask(f"runs/get?run_id={run_id}")["run"]

    def champion(self) -> Any:
        return self.ask("registered-models/alias?name=wine&alias=champion")["model_version"]

    def docker(self, *words: str, env: dict[str, str] | None = None) -> str:
        """Ask the training machine's Docker."""
        return subprocess.run(
            ["docker", *words], env={**os.environ, "DOCKER_HOST": self.socket, **(env or {})},
            check=True, text=True, capture_output=True, timeout=60,
        ).stdout  # fmt: skip

    def blobs(self) -> set[str]:
        """The artifacts' first two folders in the store itself."""
        facts = self.bakery.facts
        account = facts["storage_account"]
        gateway = ipaddress.ip_network(facts["network"]["subnet"])[1]
        key = json.loads((self.bakery.folder / "secrets.json").read_text())["storage_key"]
        store = ContainerClient(
            f"http://{gateway}:10000/{account}",
            facts["storage_container"],
            credential={"account_name": account, "account_key": key},
        )
        return {"/".join(name.split("/")[:3]) for name in store.list_blob_names()}


@pytest.fixture(scope="module")
def lab(make_bakery: Callable[..., Bakery]) -> Iterator[Lab]:
    bakery = make_bakery()
    bakery.ok("deploy")
    said = bakery.ok("deploy", "--role", "training").err
    docker_host = bakery.status()["training"]["docker_host"]
    assert f"./inv train --where {docker_host} --name {bakery.name}" in said
    folder = bakery.folder / "training"
    with tempfile.TemporaryDirectory() as name:
        socket = Path(name) / "docker.sock"
        login: list[str | Path] = [
            *("ssh", "-F", "none", "-i", folder / "ssh" / "id_ed25519"),
            *("-o", f"UserKnownHostsFile={folder / 'known_hosts'}"),
            docker_host.removeprefix("ssh://"),
        ]
        argv = [*login, "-N", "-L", f"{socket}:/var/run/docker.sock"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as forward:
            until(socket.exists, seconds=30, what="the forwarded socket")
            bakery.extra = {"DOCKER_HOST": f"unix://{socket}"}
            yield Lab(bakery, docker_host, f"unix://{socket}", login, bakery.client())
            forward.terminate()


def test_the_example_trains_registers_and_serves(lab: Lab) -> None:
    run = lab.run(lab.train("--param", "epochs=12"))
    assert run["info"]["status"] == "FINISHED"
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert parameters == {"epochs": "12", "rate": "0.001", "penalty": "0.0001", "seed": "0"}
    run_id = run["info"]["run_id"]
    history = lab.ask(f"metrics/get-history?run_id={run_id}&metric_key=test_loss")["metrics"]
    losses = [one["value"] for one in sorted(history, key=lambda one: int(one["step"]))]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    files = {one["path"] for one in lab.ask(f"artifacts/list?run_id={run_id}")["files"]}
    assert {"loss.png", "confusion.png"} <= files
    said = lab.bakery.ok("train", "--entry-point", "serve").err
    assert "models:/wine@champion takes wine 100 for class_1" in said


def test_the_example_trains_on_the_training_machine(lab: Lab) -> None:
    words = ("--where", lab.docker_host, "--param", "epochs=1", "--experiment", "far away")
    run = lab.run(lab.train(*words))
    far = lab.ask("experiments/get-by-name?experiment_name=far%20away")["experiment"]
    assert run["info"]["experiment_id"] == far["experiment_id"]
    tags = {one["key"]: one["value"] for one in run["data"]["tags"]}
    assert tags["mlflow.project.env"] == "docker"
    assert lab.champion()["version"] == "1", "12 epochs are better than one"


@pytest.mark.parametrize("password", PASSWORDS, ids=["most symbols", "the rest and spaces"])
def test_any_password_reaches_each_place_and_shows_nowhere(lab: Lab, password: str) -> None:
    subprocess.run(
        [*INVOKE, "rotate", "--password", "--password-stdin"], input=f"{password}\n",
        env=lab.bakery.environment, check=True, text=True, capture_output=True,
    )  # fmt: skip
    lab.client["MLFLOW_TRACKING_PASSWORD"] = password
    marks = {where: secrets.token_hex(8) for where in ("local", "docker", lab.docker_host)}
    started = {}
    for where, mark in marks.items():
        project = WAITING if where == "local" else WAITING / "docker"
        words = ("--project", str(project), "--where", where, "--param", f"mark={mark}")
        started[where] = lab.bakery.start("train", *words)
    runs = {where: waiting_run(lab, mark) for where, mark in marks.items()}

    shown = everything_shown(lab)
    for mark in marks.values():
        assert any(mark in text for text in shown), "the probe finds what is no secret"
    assert not any(password in text for text in shown)
    image = ("--entrypoint", "true", "mlflow-bakery/mlflow:3.17.2")
    canary = lab.docker("create", "--env", "CANARY", *image, env={"CANARY": password}).strip()
    assert any(password in text for text in everything_shown(lab)), "the probe finds a password"
    lab.docker("rm", canary)

    for where, process in started.items():
        lab.post("runs/set-tag", run_id=runs[where], key="go on", value="yes")
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, (where, err)
        assert password not in out + err
        assert runs[where] in out
        assert lab.run(runs[where])["info"]["status"] == "FINISHED"
    assert lab.docker("ps", "--all", "--quiet") == ""


def waiting_run(lab: Lab, mark: str) -> str:
    def found() -> str | None:
        experiment = lab.ask("experiments/get-by-name?experiment_name=waiting")
        if experiment is None:
            return None
        runs = lab.post(
            "runs/search",
            experiment_ids=[experiment["experiment"]["experiment_id"]],
            filter=f"params.mark = '{mark}' and metrics.seen = 1",
        )
        return runs["runs"][0]["info"]["run_id"] if runs.get("runs") else None

    return str(until(found, seconds=300, what=f"the run marked {mark}"))


def everything_shown(lab: Lab) -> list[str]:
    """What anybody on either machine can read: arguments, what Docker keeps, logs."""
    arguments = subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True).stdout
    ids = lab.docker("ps", "--all", "--quiet").split()
    kept = json.loads(lab.docker("inspect", *ids))
    images = lab.docker("images", "--quiet", "--filter", "label=mlflow-bakery.train").split()
    kept += json.loads(lab.docker("inspect", *images))
    history = [lab.docker("history", "--no-trunc", one) for one in images]
    logs = [lab.docker("logs", one) for one in ids]
    logs.append(lab.bakery.ok("logs", "--service", "machine", "--lines", "5000").out)
    journal = ("sudo", "journalctl", "--no-pager", "--output=cat")
    logs.append(subprocess.run(
        [*lab.login, "--", *journal], check=True, text=True, capture_output=True, timeout=60
    ).stdout)  # fmt: skip
    return [arguments.decode(), *texts(kept), *history, *logs]


def texts(value: object) -> Iterator[str]:
    """Return every text in what JSON gave: as it stands there, symbols are written in escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (key, *texts(one))
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def test_an_interrupted_training_ends_its_container(lab: Lab) -> None:
    mark = secrets.token_hex(8)
    words = ("--project", str(WAITING / "docker"), "--where", "docker", "--param", f"mark={mark}")
    process = lab.bakery.start("train", *words)
    run = waiting_run(lab, mark)
    assert lab.docker("ps", "--quiet")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert lab.docker("ps", "--all", "--quiet") == ""
    assert lab.run(run)["info"]["status"] == "FAILED"


def test_what_cannot_work_is_told_at_once(lab: Lab, tmp_path: Path) -> None:
    bakery, kept = lab.bakery, dict(lab.bakery.extra)
    started = time.monotonic()
    bakery.extra = {**kept, "MLFLOW_TRACKING_PASSWORD": "long gone"}
    assert "is wrong, or was rotated away" in bakery.refused("train").err
    bakery.extra = {**kept, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    assert "does not answer: Cannot connect" in bakery.refused("train", "--where", "docker").err
    bakery.extra = kept
    gpus = bakery.refused("train", "--where", lab.docker_host, "--gpus", "all")
    assert "no NVIDIA runtime" in gpus.err
    # The server's own machine: its host key is known to us, but not to ssh.
    unknown = f"ssh://bakery@{bakery.status()['address']}"
    refusal = bakery.refused("train", "--where", unknown).err
    assert "host key" in refusal
    assert "ssh-keyscan" in refusal
    assert time.monotonic() - started < 60
    assert lab.docker("ps", "--all", "--quiet") == ""


def test_gc_deletes_for_good_what_was_only_marked(lab: Lab) -> None:
    wine = lab.ask("experiments/get-by-name?experiment_name=wine")["experiment"]["experiment_id"]
    kept_run = lab.champion()["run_id"]
    bare = lab.post("runs/create", experiment_id=wine)["run"]["info"]["run_id"]
    bin_ = lab.post("experiments/create", name="for the bin")["experiment_id"]
    inside = lab.post("runs/create", experiment_id=bin_)["run"]["info"]["run_id"]
    checks = lab.post("experiments/create", name="bakery-check")["experiment_id"]
    checked = lab.post("runs/create", experiment_id=checks)["run"]["info"]["run_id"]
    far = lab.ask("experiments/get-by-name?experiment_name=far%20away")["experiment"]
    for run in (bare, kept_run):
        lab.post("runs/delete", run_id=run)
    for experiment in (bin_, checks, far["experiment_id"]):
        lab.post("experiments/delete", experiment_id=experiment)

    def stays(*runs: str) -> list[bool]:
        return [lab.ask(f"runs/get?run_id={run}") is not None for run in runs]

    assert f"{wine}/{kept_run}/artifacts" in lab.blobs()
    assert f"{far['experiment_id']}/models" in {one.rpartition("/")[0] for one in lab.blobs()}
    assert "would be deleted" in lab.bakery.ok("gc", "--dry-run").err
    assert stays(bare, inside, kept_run, checked) == [True] * 4
    lab.bakery.ok("gc", "--older-than", "30d")
    assert stays(bare, inside, kept_run, checked) == [True, True, True, False]
    done = lab.bakery.run("gc")
    assert done.code == 1, done.said
    assert "wine version 2 is made of it" in done.err
    assert stays(bare, inside, kept_run) == [False, False, False]
    assert f"{wine}/{kept_run}/artifacts" not in lab.blobs()
    assert lab.ask(f"experiments/get?experiment_id={bin_}") is None
    # The model that the far training registered lives in an experiment that is in the bin.
    assert lab.ask(f"experiments/get?experiment_id={far['experiment_id']}") is not None
    assert lab.bakery.ok("train", "--entry-point", "serve").err.count("takes wine 100") == 1


def test_all_of_it_is_there_after_a_replacement_and_a_stop(lab: Lab) -> None:
    run, champion = lab.train("--param", "epochs=3"), lab.champion()
    lab.bakery.ok("deploy", "--replace")
    assert lab.run(run)["info"]["status"] == "FINISHED"
    assert lab.champion() == champion
    lab.bakery.ok("stop")
    assert lab.bakery.status()["training"]["state"] == "stopped"
    assert "is stopped" in lab.bakery.refused("train").err
    lab.bakery.ok("start")
    assert lab.bakery.status()["training"]["state"] == "running"


def test_destroy_leaves_nothing_of_the_training_machine(lab: Lab) -> None:
    network = lab.bakery.facts["network"]["name"]
    assert any(f"{network}-t" in one for one in traces(network)), "the probe finds the machine"
    lab.bakery.destroy()
    assert traces(network) == []
    assert traces(str(lab.bakery.folder)) == []
    assert not list(lab.bakery.state.glob(f"pool/machines/{lab.bakery.name}*"))
