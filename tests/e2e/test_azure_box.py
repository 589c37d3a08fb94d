"""Azure in a box: the baked image boots as a virtual machine of the fake; Pebble signs for it."""

import json
import socket
import ssl
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from requests.auth import HTTPBasicAuth

from bakery import pool
from bakery.data_disk import read_file
from bakery.disk import root_partition
from bakery.manifest import Catalogue
from tests.azure.box import Box
from tests.azure.fake import Fake
from tests.azure.modes import environment, full, publish
from tests.azure.pebble import Pebble
from tests.e2e.bakery import PROJECT, Bakery

WORKFLOW = PROJECT / ".github" / "workflows" / "refresh.yml"
SCHEMA = "/usr/share/mlflow-bakery/schema.json"


@dataclass
class Boxed:
    """A deployment in the box."""

    fake: Fake
    pebble: Pebble
    bakery: Bakery

    @property
    def login(self) -> dict[str, str]:
        return dict(json.loads(self.bakery.ok("env", "--json", "--show-password").out))

    def experiments(self, *new: str) -> list[str]:
        """Make experiments and return the names of all."""
        client = self.login
        with requests.Session() as session:
            # Else an authority from the environment would count and not Pebble's.
            session.trust_env = False
            session.auth = HTTPBasicAuth(
                client["MLFLOW_TRACKING_USERNAME"].encode(),
                client["MLFLOW_TRACKING_PASSWORD"].encode(),
            )
            session.verify = str(self.pebble.root)
            api = f"{client['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments"
            for name in new:
                session.post(f"{api}/create", json={"name": name}, timeout=30).raise_for_status()
            found = session.get(f"{api}/search?max_results=100", timeout=30)
        found.raise_for_status()
        return sorted(one["name"] for one in found.json()["experiments"])

    def certificate(self) -> str:
        """Return the certificate that the public name shows, if Pebble's root vouches for it."""
        status = self.bakery.status()
        context = ssl.create_default_context(cafile=str(self.pebble.root))
        with (
            socket.create_connection((status["hostname"], 443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=status["hostname"]) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")

    def open_ssh(self) -> None:
        """Let this host reach SSH, as the machines see it, from now on."""
        box = self.fake.machines
        assert isinstance(box, Box)
        self.bakery.extra["BAKERY_AZURE_SSH_SOURCES"] = box.network.subnet
        self.bakery.extra["BAKERY_AZURE_TRAINING_SIZES"] = "Standard_D2s_v5"

    def machines(self) -> dict[str, str]:
        """Return what each machine is doing, by its name."""
        found = self.fake.world.of_type("Microsoft.Compute/virtualMachines")
        return {one["name"]: self.fake.world.secret(one["id"])["power"] for one in found}


@pytest.fixture(scope="module")
def boxed(state: Path, image: str) -> Iterator[Boxed]:
    """A server in the box, deployed from the image of this working tree."""
    with (
        tempfile.TemporaryDirectory(prefix="box-") as scratch,
        full(Path(scratch), state) as (fake, pebble),
    ):
        with pool.opened(state.absolute()) as disks:
            catalogue = Catalogue(state.absolute(), disks)
            disk = catalogue.disk(image)
            schema: dict[str, Any] = json.loads(
                read_file(disk, SCHEMA, root_partition(disk).offset)
            )
            publish(fake, catalogue.choose(image), schema)
        extra = {**environment(fake, pebble), "BAKERY_DATA_DISK_GIB": "4"}
        own = Path(scratch) / "client"
        own.mkdir()
        (own / "cache").symlink_to(state.absolute() / "cache")
        bakery = Bakery(own, f"b{uuid.uuid4().hex[:6]}", extra)
        try:
            bakery.ok("deploy")
            yield Boxed(fake, pebble, bakery)
        finally:
            bakery.destroy()


def test_a_deployed_server_has_a_certificate_by_acme_and_stores_runs(boxed: Boxed) -> None:
    assert boxed.bakery.status()["state"] == "ready"
    assert "mine" in boxed.experiments("mine")
    assert "BEGIN CERTIFICATE" in boxed.certificate()
    assert boxed.pebble.issued() == 1
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((boxed.bakery.status()["address"], 22), timeout=10)


def test_a_replacement_keeps_runs_and_certificate(boxed: Boxed) -> None:
    before, certificate = boxed.experiments("kept"), boxed.certificate()
    boxed.bakery.ok("deploy", "--replace")
    status = boxed.bakery.status()
    assert (status["generation"], status["previous"]) == (2, 1)
    assert boxed.experiments() == before
    assert boxed.certificate() == certificate
    assert boxed.pebble.issued() == 1
    assert sorted(boxed.machines().values()) == ["deallocated", "running"]


def test_ssh_for_our_range_and_the_whole_suite_by_it(boxed: Boxed) -> None:
    boxed.open_ssh()
    boxed.bakery.ok("deploy")
    assert boxed.bakery.ok("ssh", "--command", "id -un").out == "bakery\n"
    results = json.loads(boxed.bakery.ok("check", "--json").out)
    assert len(results) > 55, "also those of tests/image"


def test_the_workflow_s_deploy_job(boxed: Boxed) -> None:
    """What GitHub runs to serve from a new image, step by step."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    steps = [one["run"] for one in workflow["jobs"]["deploy"]["steps"] if "run" in one]
    assert [one.split()[1] for one in steps] == ["deploy", "check"]
    for step in steps:
        assert step.startswith("./inv ")
        boxed.bakery.ok(*step.split()[1:])


def test_a_training_machine_trains(boxed: Boxed) -> None:
    """One without a GPU: of the same image, in a network of its own, with a real Docker."""
    boxed.open_ssh()
    boxed.bakery.ok("deploy", "--role", "training")
    training = boxed.bakery.status()["training"]
    assert training["state"] == "running"
    link = boxed.bakery.ok("train", "--where", training["docker_host"], "--param", "epochs=1").out
    assert "/runs/" in link
    assert "wine" in boxed.experiments()
    boxed.bakery.ok("stop", "--role", "training")
    assert boxed.machines()[f"{boxed.bakery.name}-training"] == "deallocated"
    assert boxed.bakery.status()["state"] == "ready"
    boxed.bakery.ok("destroy", "--role", "training")
    assert f"{boxed.bakery.name}-training" not in boxed.machines()


def test_a_failed_replacement_gives_way_to_what_served(boxed: Boxed) -> None:
    before = boxed.experiments("after all")
    serving = boxed.bakery.status()["generation"]
    # The first takes the disk from the machine that serves, the second gives it to the new one.
    fault = boxed.fake.fault(
        "fail", method="POST", path="attachDetachDataDisks$", nth=2, code="InternalServerError"
    )
    done = boxed.bakery.run("deploy", "--replace")
    assert fault.done == 1
    assert done.code == 1, done.said
    assert "Traceback" not in done.said, done.said
    assert f"generation {serving} serves again" in done.said
    assert boxed.bakery.status()["generation"] == serving
    assert boxed.experiments() == before
    assert boxed.pebble.issued() == 1
