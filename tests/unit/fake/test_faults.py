"""What is let go wrong: by Python and, from other processes, by the fake's own doors."""

import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

from tests.azure.clients import Clients
from tests.azure.fake import Fake, serving
from tests.unit.fake.estate import HERE, Estate
from tests.unit.fake.refused import refused


def test_the_nth_call_is_answered_otherwise(fake: Fake, clients: Clients, estate: Estate) -> None:
    groups = clients.resource.resource_groups
    fake.fault("answer", method="GET", path="/rg$", nth=2, status=403, code="Forbidden")
    groups.get("rg")
    with refused("Forbidden", 403):
        groups.get("rg")
    groups.get("rg")


def test_throttling_is_waited_for(fake: Fake, clients: Clients, estate: Estate) -> None:
    fake.journal.clear()
    fault = fake.fault(
        "answer", path="/rg$", times=2, status=429, code="TooManyRequests", retry_after=0
    )
    clients.resource.resource_groups.get("rg")
    assert fault.done == 2
    assert [one.status for one in fake.journal.entries] == [429, 429, 200]


@pytest.mark.parametrize("after", [False, True])
def test_a_dropped_connection(fake: Fake, clients: Clients, estate: Estate, *, after: bool) -> None:
    fake.fault("drop", method="PUT", path="/disks/", times=9, after=after)
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        estate.disk()
    there = [one.name for one in clients.compute.disks.list()]
    assert there == (["data"] if after else [])


def test_a_delay(fake: Fake, clients: Clients, estate: Estate) -> None:
    fake.fault("delay", path="/rg$", seconds=0.2)
    began = time.monotonic()
    clients.resource.resource_groups.get("rg")
    assert time.monotonic() - began >= 0.2


_CLIENT = """
import sys, requests
for path in ("one", "two", "three"):
    requests.get(sys.argv[1] + "/" + path, verify=sys.argv[2], timeout=20)
"""


@pytest.mark.parametrize("after", [False, True])
def test_the_caller_is_killed_at_a_call(fake: Fake, *, after: bool) -> None:
    fake.fault("kill", path="/two$", after=after)
    words = [sys.executable, "-c", _CLIENT, fake.url, str(fake.ca_file)]
    done = subprocess.run(words, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [one.path for one in fake.journal.entries] == ["/one", "/two"]
    assert fake.journal.entries[1].status == (401 if after else 0)


def test_the_doors_for_other_processes(fake: Fake, clients: Clients, estate: Estate) -> None:
    def door(method: str, path: str, **values: Any) -> requests.Response:
        return requests.request(
            method, f"{fake.url}/_fake/{path}", verify=str(fake.ca_file), timeout=10, **values
        )

    fault = {"action": "answer", "path": "/rg$", "status": 409, "code": "Busy"}
    assert door("POST", "faults", json=fault).status_code == 201
    assert door("POST", "faults", json={"action": "explode"}).status_code == 400
    with refused("Busy", 409):
        clients.resource.resource_groups.get("rg")
    door("DELETE", "faults")
    clients.resource.resource_groups.get("rg")
    assert [one["status"] for one in door("GET", "log").json()][-2:] == [409, 200]
    assert door("PATCH", "options", json={"polls": 3, "style": "location"}).json()["polls"] == 3
    assert door("PATCH", "options", json={"pols": 3}).status_code == 400
    estate.disk()
    assert len([one for one in fake.journal.calls("GET") if "operationResults" in one]) == 4
    door("DELETE", f"resources{estate.id('Compute', 'disks/data')}")
    with pytest.raises(HttpResponseError):
        clients.compute.disks.get("rg", "data")
    assert "data" not in door("GET", "state").text


def test_all_is_remembered_over_a_restart(tmp_path: Any) -> None:
    with serving(tmp_path, registered=True, keep=True) as fake:
        Clients(fake).resource.resource_groups.create_or_update("rg", {"location": HERE})
        Estate(fake, Clients(fake)).disk()
        subscription = fake.subscription
    assert (tmp_path / "world.json").stat().st_mode & 0o777 == 0o600
    with serving(tmp_path, keep=True) as again:
        assert again.subscription == subscription
        assert [one.name for one in Clients(again).compute.disks.list()] == ["data"]
