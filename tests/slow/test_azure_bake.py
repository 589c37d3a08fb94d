"""Baking on Azure, against the fake control plane and a stand-in for Packer."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bakery import bake as baking
from bakery.azure import leftovers
from bakery.azure.account import Account
from bakery.azure.clients import Clients
from bakery.azure.context import Azure
from bakery.azure.gallery import Gallery
from bakery.azure.group import Group
from bakery.azure.store import CONTAINER
from bakery.errors import BakeryError, InputError
from bakery.images import images
from bakery.manifest import Manifest
from bakery.settings import load
from tests.azure.azurite import AzuriteStores
from tests.azure.login import write_az
from tests.azure.loopback import Neighbourhood
from tests.azure.machines import Output
from tests.azure.packer.build import PHASES
from tests.azure.place import GROUPS, Place, placed
from tests.azure.world import group_of
from tests.e2e.bakery import INVOKE, PROJECT


def bake(**options: Any) -> Manifest:
    return baking.bake(load(target="azure"), **options)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch) as found:
        yield found


def test_a_bake_from_nothing(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    made = bake()
    said = capfd.readouterr().err
    found = place.images()
    assert [(one.image, one.state, one.provisioning) for one in found] == [
        (made.id, "good", "Succeeded")
    ]
    assert made.packages["docker-ce"].startswith("5:28")
    assert made.base.source.endswith(":20.04.202505200"), "the version that `latest` was"
    assert found[0].schema["revision"] == "dc11669786a5"
    assert found[0].manifest is not None
    assert found[0].manifest.containers == made.containers
    version = place.fake.world.get(found[0].id)
    assert version["properties"]["publishingProfile"]["excludeFromLatest"] is False
    assert version["tags"]["managed-by"] == "mlflow-bakery"
    assert place.groups() == ["mlflow-bakery"], "temporary groups are gone"
    assert "Ubuntu 20.04 gets no fixes since 2025-05-31" in said
    assert said.count("2025-05-31") == 1
    assert [title for title, _ in made.timings if title.startswith("provision ")]
    assert "check-candidate" not in place.machines.scripts[0][0]
    assert 'echo "candidate ok"' in place.machines.scripts[0][0]


def test_the_same_inputs_are_not_baked_again(place: Place) -> None:
    first = bake()
    place.fake.journal.clear()
    again = bake()
    assert again == first
    assert len(place.calls("build")) == 1
    assert place.fake.journal.calls("PUT", "DELETE", "PATCH") == []
    assert all(call.endswith("/oauth2/v2.0/token") for call in place.fake.journal.calls("POST"))
    assert bake(force=True).id != first.id
    assert len(place.images()) == 2


def test_another_base_is_another_image(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bake()
    monkeypatch.setenv("BAKERY_BASE", "ubuntu-24.04")
    second = bake()
    assert second.bake_key != first.bake_key
    assert {one.definition for one in place.images()} == {
        "mlflow-ubuntu-20.04",
        "mlflow-ubuntu-24.04",
    }
    monkeypatch.setenv("BAKERY_BASE", "debian-13")
    with pytest.raises(InputError, match="debian-13 is not a base on Azure") as refused:
        bake()
    assert "ubuntu-22.04" in refused.value.hint


def test_nothing_secret_is_written_or_told(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.packer(fail="provision")
    with pytest.raises(BakeryError):
        bake()
    files = [one for one in tmp_path.rglob("*") if one.is_file() and "bin" not in one.parts]
    texts = [one.read_bytes() for one in [*files, place.bin / "packer.calls"]]
    assert any(b"Provisioning" in text for text in texts), "the log is among them"
    assert not any(b"principal's secret" in text for text in texts)
    assert "principal's secret" not in "".join(capfd.readouterr())
    assert "principal's secret" not in str(place.fake.journal.as_json())


def test_a_phase_that_fails_leaves_nothing_and_can_be_repeated(place: Place) -> None:
    for phase in PHASES:
        place.packer(fail=phase)
        with pytest.raises(BakeryError, match=f"asked to fail at {phase}") as failed:
            bake()
        assert failed.value.log
        assert failed.value.log.exists()
        assert place.groups() == ["mlflow-bakery"], phase
        assert place.images() == [], phase
    place.packer()
    assert bake().id == place.images()[0].image


REFUSED: dict[str, dict[str, Any]] = {
    "group": {"action": "answer", "method": "PUT", "path": "mlflow-bakery-tmp-", "status": 403,
              "code": "AuthorizationFailed"},
    "vm": {"action": "fail", "method": "PUT", "path": "/virtualMachines/vm$",
           "code": "AllocationFailed"},
    "capture": {"action": "answer", "method": "POST", "path": "/generalize", "status": 409,
                "code": "Conflict"},
    "publish": {"action": "fail", "method": "PUT", "path": "/versions/", "code": "InternalError"},
}  # fmt: skip


def test_what_azure_refuses_packer_is_told_and_undone(place: Place) -> None:
    for phase, values in REFUSED.items():
        place.fake.fault(**values)
        with pytest.raises(BakeryError, match=str(values["code"])):
            bake()
        assert place.groups() == ["mlflow-bakery"], phase
        assert place.images() == [], "a version in the state Failed is deleted"
    bake()
    assert [one.state for one in place.images()] == ["good"]


def test_a_wrong_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(InputError, match="secret is wrong") as refused:
        bake()
    assert "AZURE_CLIENT_SECRET" in refused.value.hint
    assert place.groups() == []
    assert not place.calls("build")


def test_a_group_that_packer_left_is_removed(place: Place) -> None:
    place.packer(fail="group", stuck=True)
    with pytest.raises(BakeryError):
        bake()
    assert place.groups() == ["mlflow-bakery"]


def test_what_a_killed_bake_left_is_removed_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.packer(fail="provision", stuck=True)
    with monkeypatch.context() as killed:
        killed.setattr("bakery.azure.bake._clear", lambda *_: None)
        with pytest.raises(BakeryError):
            bake()
    assert len(place.groups()) == 2
    place.packer()
    bake()
    assert place.groups() == ["mlflow-bakery"]


def test_a_group_that_is_not_ours_is_left_alone(place: Place) -> None:
    name = leftovers.temporary_name()
    path = f"/subscriptions/{place.fake.subscription}/resourceGroups/{name}"
    place.fake.world.put(
        {"id": path, "name": name, "type": GROUPS, "location": "westeurope", "tags": {},
         "properties": {"provisioningState": "Succeeded"}}
    )  # fmt: skip
    assert not leftovers.remove(Clients(load(target="azure")), name)
    assert name in place.groups()


def test_a_candidate_that_does_not_pass_stays_out_of_use(place: Place) -> None:
    good = bake()
    place.machines.output = Output(out="candidate failed: units have failed: mlflow.service\n")
    with pytest.raises(BakeryError, match="did not pass its test") as failed:
        bake(force=True)
    assert "mlflow.service" in failed.value.tail
    found = place.images()
    assert [one.state for one in found] == ["good", "rejected"]
    profile = place.fake.world.get(found[1].id)["properties"]["publishingProfile"]
    assert profile["excludeFromLatest"] is True
    settings = load(target="azure")
    shelf = Gallery(settings, Clients(settings))
    assert shelf.choose(None).image == good.id
    with pytest.raises(InputError, match="is rejected"):
        shelf.choose(found[1].image)
    assert place.groups() == ["mlflow-bakery"]


def test_a_candidate_that_could_not_be_tested_is_not_baked_again(place: Place) -> None:
    place.fake.fault(
        "fail", method="PUT", path="/virtualMachines/candidate", code="InternalOperationError"
    )
    with pytest.raises(BakeryError, match="boot a machine from the candidate"):
        bake()
    assert [one.state for one in place.images()] == ["candidate"]
    assert place.groups() == ["mlflow-bakery"]
    made = bake()
    assert len(place.calls("build")) == 1
    assert [(one.image, one.state) for one in place.images()] == [(made.id, "good")]


def test_the_next_size_is_tried_for_the_test(place: Place) -> None:
    place.fake.catalogue.no_capacity.add("standard_b2s")
    with pytest.raises(BakeryError, match="AllocationFailed"):
        bake()
    place.fake.catalogue.no_capacity.clear()
    place.fake.catalogue.not_available.add("standard_b2s")
    bake()
    sizes = {
        entry.body["properties"]["hardwareProfile"]["vmSize"]
        for entry in place.fake.journal.entries
        if entry.method == "PUT" and entry.path.endswith("/candidate")
    }
    assert sizes == {"Standard_B2s", "Standard_B2als_v2"}


@pytest.mark.parametrize(
    ("manner", "told", "hint"),
    [
        ({"packer": "1.6.6"}, "is Packer 1.6.6; Azure needs 1.10.0 or newer", "developer.hashi"),
        ({"packer": "1.9.9"}, "is Packer 1.9.9; Azure needs 1.10.0 or newer", "developer.hashi"),
        ({"plugin": "2.1.9"}, "Azure plugin is 2.1.9; 2.2.0 or newer", "packer plugins install"),
        ({"plugin": "", "online": False}, "no Azure plugin: dial tcp", "packer plugins install"),
    ],
)
def test_an_old_packer_is_refused(
    place: Place, manner: dict[str, Any], told: str, hint: str
) -> None:
    place.packer(**manner)
    with pytest.raises(InputError, match=told) as refused:
        bake()
    assert hint in refused.value.hint
    assert "mlflow-bakery" not in place.groups()
    assert place.images() == []


def test_a_plugin_that_is_there_will_do_without_github(place: Place) -> None:
    place.packer(plugin="2.2.0", online=False)
    assert bake().id


def test_a_base_that_is_not_published_any_more(place: Place) -> None:
    del place.fake.catalogue.images["Canonical", "0001-com-ubuntu-server-focal", "20_04-lts-gen2"]
    with pytest.raises(InputError, match="is not published in westeurope") as refused:
        bake()
    assert refused.value.hint == "--base, one of ubuntu-22.04, ubuntu-24.04"
    assert place.groups() == []


def test_a_version_of_somebody_else_is_never_changed(place: Place) -> None:
    bake()
    version = place.images()[0]
    place.fake.world.get(version.id)["tags"] = {}
    assert place.images() == []
    settings = load(target="azure")
    with pytest.raises(BakeryError, match="is not ours"):
        Gallery(settings, Clients(settings)).promote(version)


def test_the_login_of_az(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = write_az(place.fake, tmp_path / "az")
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    bake()
    assert len(place.images()) == 1
    assert group_of(place.images()[0].id) == "mlflow-bakery"


def test_the_packages_are_known_on_another_host(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the deployment's account is there, with a container for its state."""
    with contextlib.ExitStack() as stack:
        addresses = Neighbourhood()
        stack.callback(addresses.close)
        stores = AzuriteStores(tmp_path / "azurite", state / "cache", addresses.address())
        stack.callback(stores.close)
        place = stack.enter_context(placed(tmp_path, monkeypatch, registered=True, stores=stores))
        azure = Azure(load(target="azure"))
        Group(azure).ensure()
        account = Account(azure)
        account.ensure()
        account.ensure_container(CONTAINER)
        made = bake()
        assert made.packages
        shutil.rmtree(load().state_dir)
        (found,) = images(load(target="azure"))
        assert found.manifest == made
        assert len(place.images()) == 1


KILLS: list[dict[str, Any]] = [
    # Packer dies when it has published, and cleans nothing up.
    {"method": "PUT", "path": "/versions/", "after": True},
    # The bake dies before the version is recorded; then with the candidate's machine running.
    {"method": "PUT", "path": "/versions/", "nth": 2},
    {"method": "PUT", "path": "/virtualMachines/candidate", "after": True},
]


def test_a_bake_that_is_killed_is_brought_to_its_end_by_the_next(
    place: Place, state: Path, tmp_path: Path
) -> None:
    own = tmp_path / "state"
    own.mkdir()
    (own / "cache").symlink_to((state / "cache").absolute())
    given = {**os.environ, "BAKERY_CONTAINER_SOURCE": "packages"}
    words = [*INVOKE, "bake", "--target", "azure", "--base", "ubuntu-24.04"]
    for kill in KILLS:
        fault = place.fake.fault("kill", **kill)
        for again in (False, True):
            done = subprocess.run(
                words, env=given, cwd=PROJECT, capture_output=True, text=True, timeout=300,
                check=False,
            )  # fmt: skip
            assert (done.returncode == 0) == again, done.stderr
        assert fault.done == 1, kill
        found = place.images()
        assert [one.state for one in found] == ["good"], kill
        assert place.groups() == ["mlflow-bakery"], kill
        settings = load(target="azure")
        Gallery(settings, Clients(settings)).delete(found[0])
