"""Stand-ins of machines: from standby to service and back, and what their data disks keep."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from bakery.checks.door import Door, Login, ask
from bakery.environment import hash_password, user_data
from tests.azure.clients import Clients
from tests.azure.fake import Fake, serving
from tests.azure.loopback import Neighbourhood
from tests.azure.standin import StandIns
from tests.unit.fake.estate import Estate

HOST = "served.westeurope.cloudapp.azure.com"
READY = "/api/2.0/mlflow/experiments/search"
LOGIN = Login("mlflow", SecretStr("pässword"))
DUTY = "/usr/lib/mlflow-bakery/duty "


@pytest.fixture
def standins(tmp_path: Path) -> Iterator[StandIns]:
    addresses = Neighbourhood()
    made = StandIns(tmp_path, addresses)
    yield made
    made.close()
    addresses.close()


@pytest.fixture
def fake(standins: StandIns) -> Iterator[Fake]:
    with serving(registered=True, machines=standins) as made:
        yield made


def custom_data(*, first: bool = True, uuid: str = "u-1", serial: int = 1) -> str:
    values: dict[str, Any] = {
        "schema": 1, "hostname": HOST, "data_disk": {"uuid": uuid, "first": first},
        "users": {LOGIN.username: hash_password(LOGIN.password.get_secret_value())},
        "check_token": "token",
    }  # fmt: skip
    return base64.b64encode(user_data(values, serial).encode()).decode()


class Served(Estate):
    """Machines with custom data of ours, and a look at their door."""

    def boot(self, name: str, **values: Any) -> None:
        self.card(name)
        body = self.vm_body(name)
        body["properties"]["osProfile"]["customData"] = custom_data(**values)
        self.put_vm(name, body)

    def give(self, name: str, disk: str) -> None:
        body: Any = {"dataDisksToAttach": [{"diskId": self.id("Compute", disk), "lun": 10}]}
        calls = self.clients.compute.virtual_machines
        calls.begin_attach_detach_data_disks("rg", name, body).result()

    def take(self, name: str, disk: str) -> None:
        body: Any = {"dataDisksToDetach": [{"diskId": self.id("Compute", disk)}]}
        calls = self.clients.compute.virtual_machines
        calls.begin_attach_detach_data_disks("rg", name, body).result()

    def run(self, name: str, script: str) -> str:
        body: Any = {"commandId": "RunShellScript", "script": [script]}
        calls = self.clients.compute.virtual_machines
        done = calls.begin_run_command("rg", name, body).result()
        return str((done.value or [])[0].message)

    def door(self, standins: StandIns) -> Door:
        found = self.clients.network.public_ip_addresses.get("rg", "ip").ip_address
        return Door(HOST, str(found), standins.ca_file, LOGIN)


@pytest.fixture
def served(fake: Fake, clients: Clients) -> Served:
    """A network with a public address and a data disk."""
    clients.resource.resource_groups.create_or_update("rg", {"location": "westeurope"})
    made = Served(fake, clients)
    made.network()
    made.public()
    made.disk()
    return made


def test_from_standby_to_service_and_on_to_the_next(served: Served, standins: StandIns) -> None:
    public = str(served.clients.network.public_ip_addresses.get("rg", "ip").id)
    served.boot("one")
    door = served.door(standins)
    served.give("one", "disks/data")
    served.card("one", public)
    with pytest.raises(requests.ConnectionError):
        ask(door, READY, login=LOGIN)
    served.run("one", DUTY + "activate")
    assert ask(door, READY, login=LOGIN).status_code == 503
    token = {"X-Bakery-Check": "token"}
    assert ask(door, READY, headers=token).status_code == 401
    assert ask(door, READY, login=LOGIN, headers=token).status_code == 200
    served.run("one", DUTY + "admit")
    assert ask(door, READY, login=LOGIN).status_code == 200
    path = "/api/2.0/mlflow/experiments/create"
    ask(door, path, login=LOGIN, method="POST", json={"name": "kept"})
    certificate = standins._disk(served.id("Compute", "disks/data")) / "certificate.pem"
    before = certificate.read_text()
    assert '{"experiments": 2, "runs": 0}' in served.run("one", DUTY + "quiesce")
    with pytest.raises(requests.ConnectionError):
        ask(door, READY, login=LOGIN)
    served.take("one", "disks/data")
    served.boot("two", first=False)
    served.card("one")
    served.card("two", public)
    served.give("two", "disks/data")
    served.run("two", DUTY + "activate")
    served.run("two", DUTY + "admit")
    names = json.loads(ask(door, READY, login=LOGIN).text)["experiments"]
    assert names == [{"name": "Default"}, {"name": "kept"}]
    assert certificate.read_text() == before


@pytest.mark.parametrize(
    ("disk", "values", "told"),
    [
        ("disks/data", {"first": False}, "the data disk is empty, but"),
        ("disks/used", {"uuid": "u-2"}, "the data disk is u-1"),
    ],
)
def test_a_data_disk_that_is_not_taken(
    served: Served, standins: StandIns, disk: str, values: dict[str, Any], told: str
) -> None:
    served.disk("used")
    (standins._disk(served.id("Compute", "disks/used")) / "uuid").write_text("u-1")
    served.boot("one", **values)
    served.give("one", disk)
    served.run("one", DUTY + "activate")
    assert told in served.run("one", "journalctl")
    assert "not there" in served.run("one", "mountpoint -q /var/lib/mlflow-data || echo not there")


def test_it_comes_back_from_a_restart_when_it_was_admitted(
    served: Served, standins: StandIns
) -> None:
    public = str(served.clients.network.public_ip_addresses.get("rg", "ip").id)
    served.boot("one")
    served.give("one", "disks/data")
    served.card("one", public)
    served.run("one", DUTY + "activate")
    calls, door = served.clients.compute.virtual_machines, served.door(standins)
    calls.begin_restart("rg", "one").result()
    with pytest.raises(requests.ConnectionError):
        ask(door, READY, login=LOGIN)
    served.run("one", DUTY + "activate")
    served.run("one", DUTY + "admit")
    calls.begin_restart("rg", "one").result()
    assert ask(door, READY, login=LOGIN).status_code == 200
