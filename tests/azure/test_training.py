"""The training machine in Azure: its own network, its GPU, its key, and the way to its Docker."""

import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest

from bakery import cost, ssh, targets, training
from bakery.deploy import destroy, start, stop
from bakery.errors import BakeryError, InputError
from bakery.images import images, prune
from bakery.state import Generation
from bakery.status import status
from bakery.targets import azure
from tests.azure import sshd
from tests.azure.matrix import KILLS, Case, Matrix, cases, killed
from tests.azure.stage import Stage, forked

SERVER, GPU, NEWER = (
    "20261126-100000-aaaaaaaa", "20261126-110000-bbbbbbbb", "20261126-120000-cccccccc"
)  # fmt: skip
VMS = "Microsoft.Compute/virtualMachines"
NSGS = "Microsoft.Network/networkSecurityGroups"
OURS = {"azure_ssh_sources": "127.0.0.0/8, 203.0.113.0/24"}


@pytest.fixture
def trained(make_stage: Callable[..., Stage], ssh_server: sshd.Program) -> Stage:
    """A server that is deployed, an image with NVIDIA's driver, and who may reach SSH."""
    stage = make_stage(image=SERVER).told(**OURS)
    stage.machines.sshd = ssh_server
    stage.deploy()
    stage.bake(GPU, gpu=True)
    return stage


def machine(stage: Stage) -> dict[str, Any]:
    [found] = [one for one in stage.fake.world.of_type(VMS) if one["name"] == "mlflow-training"]
    return found


def check_whole(stage: Stage) -> None:
    """See that there is one training machine, what is its own once, and nothing else of it."""
    vm = machine(stage)
    assert vm["tags"]["mlflow-bakery-image"] == GPU
    for kind in ("virtualNetworks", "networkSecurityGroups", "publicIPAddresses"):
        own = [one for one in stage.named(f"Microsoft.Network/{kind}") if "training" in one]
        assert len(own) == 1, own
    cards = [one for one in stage.named("Microsoft.Network/networkInterfaces") if "-tr" in one]
    assert cards == ["mlflow-training-nic"]
    disks = [one for one in stage.named("Microsoft.Compute/disks") if "training" in one]
    assert disks == ["mlflow-training-os"]
    assert stage.fake.world.of_type("Microsoft.Compute/virtualMachines/runCommands") == []
    target = stage.seen()
    assert target.store.tokens() == {}
    assert target.drift() == []
    assert target.training.ready(), "Docker answers over SSH"


def gone(stage: Stage) -> list[str]:
    """Return what is left of it."""
    return [one["id"] for one in stage.fake.world.resources.values() if "training" in one["name"]]


def test_a_machine_with_a_gpu_that_only_our_ranges_reach(
    trained: Stage, record_property: Callable[[str, str], None]
) -> None:
    hosts: list[str] = []
    calls = trained.calls(lambda: hosts.append(training.deploy(trained.settings)))
    record_property("case", f"training machine: {len(calls)} calls")
    vm = machine(trained)
    assert vm["properties"]["hardwareProfile"]["vmSize"] == "Standard_NC4as_T4_v3"
    disk = vm["properties"]["storageProfile"]["osDisk"]
    assert (disk["deleteOption"], disk["diskSizeGB"]) == ("Delete", 128)
    [card] = vm["properties"]["networkProfile"]["networkInterfaces"]
    assert card["properties"]["deleteOption"] == "Delete"
    assert "userData" not in vm["properties"]
    hidden = trained.fake.world.secret(vm["id"])
    told = bytes.fromhex(hidden["custom_data"]).decode()
    assert "usermod" in told
    assert "write_files" not in told, "it is told nothing of the server"
    [group] = [one for one in trained.fake.world.of_type(NSGS) if "training" in one["name"]]
    [rule] = [one["properties"] for one in group["properties"]["securityRules"]]
    assert rule["destinationPortRange"] == "22"
    assert rule["sourceAddressPrefixes"] == ["127.0.0.0/8", "203.0.113.0/24"]
    found = trained.seen().training
    assert hosts == [found.docker_host]
    assert found.docker_host == f"ssh://bakery@{trained.fake.machine(vm).address}"
    servers = trained.seen().access.key(trained.seen().store).public()
    assert servers not in hidden["keys"], "the server's key is another"
    assert ssh.command(found.access, ["docker", "version"]).returncode == 0
    check_whole(trained)
    assert trained.answers() == 200


def test_again_there_is_nothing_to_do_and_a_colleague_sees_it(trained: Stage) -> None:
    host = training.deploy(trained.settings)
    made = machine(trained)["properties"]["vmId"]
    other = trained.colleague()
    calls = trained.calls(lambda: training.deploy(other.settings))
    assert [one for one in calls if one.startswith(("PUT", "DELETE"))] == []
    assert machine(trained)["properties"]["vmId"] == made
    row = {
        "state": "running", "image": GPU, "size": "Standard_NC4as_T4_v3", "docker_host": host,
    }  # fmt: skip
    assert status(other.settings)["training"] == row
    both = images(other.settings)
    assert [one.id for one in both if one.in_use] == [SERVER, GPU]
    assert both[0].differs == "", "compared with what the server is of"


def test_nobody_may_reach_it_so_nothing_is_made(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(image=SERVER)
    stage.deploy()
    before = set(stage.fake.world.resources)
    with pytest.raises(InputError, match="nobody may reach SSH") as refused:
        training.deploy(stage.settings)
    assert "azure_ssh_sources" in refused.value.hint
    with pytest.raises(InputError, match="nobody may reach SSH"):
        training.plan(stage.settings)
    assert set(stage.fake.world.resources) == before


def test_the_image_must_suit_the_size(trained: Stage) -> None:
    trained.bake(NEWER)
    assert trained.seen().choose_image(None).id == NEWER
    assert trained.seen().training.choose_image(None).id == GPU
    with pytest.raises(InputError, match="no driver for GPUs") as refused:
        training.deploy(trained.settings, image=NEWER)
    assert "BAKERY_AZURE_GPU=true" in refused.value.hint
    plain = trained.told(azure_training_sizes="Standard_D4s_v5").seen().training
    assert plain.choose_image(None).id == NEWER, "without a GPU any image will do"
    both = trained.told(azure_gpu=True)
    trained.bake("20261126-130000-dddddddd", gpu=True)
    assert trained.seen().choose_image(None).id == NEWER
    assert both.seen().choose_image(None).id == "20261126-130000-dddddddd"
    kept = {one.name for one in prune(trained.settings, keep=1, do=False)}
    assert kept == {GPU}, "the newest of each kind stays, and what serves"


def test_without_a_driver_in_any_image(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(image=SERVER).told(**OURS)
    stage.deploy()
    with pytest.raises(InputError, match="no image has NVIDIA's driver") as refused:
        training.deploy(stage.settings)
    assert "bake" in refused.value.hint


def test_another_size_is_tried_where_one_cannot_be_had(trained: Stage) -> None:
    trained.fake.catalogue.no_capacity.add("standard_nc4as_t4_v3")
    training.deploy(trained.settings)
    assert machine(trained)["properties"]["hardwareProfile"]["vmSize"] == "Standard_NC8as_T4_v3"
    check_whole(trained)


def test_a_quota_of_nothing_is_explained(trained: Stage) -> None:
    trained.fake.catalogue.quota["Standard NCASv3_T4 Family"] = 0
    with pytest.raises(BakeryError, match="quota does not allow it") as refused:
        training.deploy(trained.settings)
    assert "azure_training_sizes" in refused.value.hint
    other = trained.told(azure_training_sizes="Standard_NC4as_T4_v3, Standard_D2s_v5")
    training.deploy(other.settings)
    assert machine(trained)["properties"]["hardwareProfile"]["vmSize"] == "Standard_D2s_v5"


def test_a_plan_writes_nothing(trained: Stage) -> None:
    rows = training.plan(trained.settings)
    assert [(one.action, one.what) for one in rows] == [
        ("create", "network security group mlflow-training-nsg"),
        ("create", "virtual network mlflow-training-vnet"),
        ("create", "public address mlflow-training-ip"),
        ("create", f"machine mlflow-training (Standard_NC4as_T4_v3) of image {GPU}"),
    ]
    assert gone(trained) == []
    training.deploy(trained.settings)
    assert training.plan(trained.settings) == []
    trained.bake(NEWER, gpu=True)
    assert [one.action for one in training.plan(trained.settings)] == ["delete", "create"]
    told = [one.what for one in targets.plan_destroy(trained.settings, with_data=False)]
    assert "machine mlflow-training with its disk" in told
    alone = [one.what for one in training.destroy_plan(trained.settings)]
    assert alone == [
        "machine mlflow-training with its disk",
        "virtual network mlflow-training-vnet",
        "network security group mlflow-training-nsg",
        "public address mlflow-training-ip",
    ]


def test_it_is_made_anew_of_a_newer_image_at_the_same_address(trained: Stage) -> None:
    host = training.deploy(trained.settings)
    trained.bake(NEWER, gpu=True)
    assert training.deploy(trained.settings) == host
    assert machine(trained)["tags"]["mlflow-bakery-image"] == NEWER
    assert trained.seen().training.ready(), "its host key is another, and known"


def test_it_stops_and_starts_and_goes_alone(trained: Stage) -> None:
    training.deploy(trained.settings)
    power = partial(trained.fake.world.secret, machine(trained)["id"])
    training.stop_alone(trained.settings)
    assert power()["power"] == "deallocated"
    assert trained.answers() == 200, "the server serves"
    assert status(trained.settings)["training"]["state"] == "stopped"
    assert [one.action for one in training.plan(trained.settings)] == ["change"]
    training.deploy(trained.settings)
    assert power()["power"] == "running"
    stop(trained.settings)
    assert power()["power"] == "deallocated"
    start(trained.settings)
    check_whole(trained)
    training.destroy(trained.settings)
    assert gone(trained) == []
    assert trained.seen().store.read("training/id_ed25519") is None
    trained.check_tidy()
    with pytest.raises(InputError, match="has no training machine"):
        training.stop_alone(trained.settings)


def test_a_replacement_of_the_server_leaves_it_alone(trained: Stage) -> None:
    training.deploy(trained.settings)
    made = machine(trained)["properties"]["vmId"]
    trained.bake(NEWER)
    trained.machines.faults[NEWER] = "migrates"
    with pytest.raises(BakeryError):
        trained.told(ready_seconds=3).deploy(image=NEWER)  # a snapshot takes the disk's place
    trained.machines.faults.clear()
    trained.deploy(image=NEWER)
    assert machine(trained)["properties"]["vmId"] == made
    check_whole(trained)


def test_the_whole_goes_with_the_deployment(trained: Stage) -> None:
    training.deploy(trained.settings)
    destroy(trained.settings, with_data=False)
    assert gone(trained) == []
    assert "mlflow-data" in trained.named("Microsoft.Compute/disks")
    trained.deploy()
    training.deploy(trained.settings)
    destroy(trained.settings, with_data=True)
    assert gone(trained) == []


def test_other_ranges_are_told_and_taken_over(trained: Stage) -> None:
    training.deploy(trained.settings)
    other = trained.told(azure_ssh_sources="203.0.113.0/24")
    assert any("mlflow-training-nsg was changed" in one for one in other.seen().drift())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bakery.targets.azure_training._DOCKER_SECONDS", 1)
        with pytest.raises(BakeryError, match="does not answer this host") as closed:
            training.deploy(other.settings)
    assert "azure_ssh_sources" in closed.value.hint
    training.deploy(trained.settings)
    check_whole(trained)


@pytest.mark.matrix
def test_killed_at_a_call(
    trained: Stage, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    turns = count()
    calls = trained.calls(lambda: training.deploy(trained.settings))
    training.destroy(trained.settings)

    def each(case: Case) -> str:
        killed(trained, case, lambda: training.deploy(trained.settings), trained.fake.faults)
        other = trained.colleague(f"trainer-{next(turns)}")
        training.deploy(other.settings)
        check_whole(other)
        training.destroy(trained.settings)
        assert gone(trained) == []
        return "the next call makes it, and its removal leaves nothing"

    Matrix(request, record_property).run(
        "Azure: a training machine killed at every call", cases(calls, KILLS), each
    )


def test_a_removal_that_was_killed_goes_on(trained: Stage) -> None:
    training.deploy(trained.settings)
    trained.fake.fault("kill", method="DELETE", path="mlflow-training-vnet", after=True)
    log = trained.folder / "killed.log"
    assert forked(lambda: training.destroy(trained.settings), log) == -signal.SIGKILL
    trained.fake.faults.clear()
    assert len(gone(trained)) == 2
    training.destroy(trained.colleague().settings)
    assert gone(trained) == []
    with azure.opened(trained.settings) as target:
        assert isinstance(target.deployment.generation, Generation)


def test_what_it_costs(trained: Stage) -> None:
    found = cost.cost(trained.settings, role="training")
    months = {item.what.split(" (")[0]: item.month for item in found.items}
    assert months["machine Standard_NC4as_T4_v3"] == round(730 * 0.526, 2)
    assert months["its disk"] == 9.6
    assert "stopped" in found.note
    assert cost.cost(trained.settings).month < found.month
