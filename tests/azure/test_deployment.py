"""Deployments in Azure by the real pages and the real SDKs, against the fake with stand-ins."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bakery import settings as settings_module
from bakery.deploy import destroy, rollback, stop, storage
from bakery.errors import BakeryError, InputError
from bakery.state import Generation
from bakery.status import client_environment, history, status
from bakery.targets import azure, plan_deploy, plan_destroy
from bakery.targets.azure_target import AzureTarget
from bakery.users import change
from tests.azure.stage import Stage, forked

OLD, NEW = "20261126-100000-aaaaaaaa", "20261126-110000-bbbbbbbb"
VMS = "Microsoft.Compute/virtualMachines"


def writes(calls: list[str]) -> list[str]:
    # To ask for keys or names is a POST that changes nothing.
    asking = ("listKeys", "checkNameAvailability", "/runCommands/")
    kept = [call for call in calls if not call.startswith(("GET", "HEAD"))]
    return [call for call in kept if not any(word in call for word in asking)]


def test_from_an_empty_subscription_to_a_server(
    make_stage: Callable[..., Stage], record_property: Callable[[str, str], None]
) -> None:
    stage = make_stage(image=None, fresh=True)
    stage.bake(OLD)
    stage.fake.world.providers["Microsoft.Network"] = "NotRegistered"
    plan = plan_deploy(stage.settings, image=None, replace=False)
    assert ("change", "resource provider Microsoft.Network") in [
        (one.action, one.what) for one in plan
    ]
    assert [one.action for one in plan if one.what.startswith("machine mlflow-1")] == ["create"]
    began = time.monotonic()
    calls = stage.calls(stage.deploy)
    record_property("case", f"first deploy: {len(calls)} calls, {time.monotonic() - began:.1f} s")
    stage.check_tidy()
    assert any("Microsoft.Network/register" in call for call in calls)
    [vm] = stage.fake.world.of_type(VMS)
    profile = vm["properties"]["storageProfile"]
    assert profile["osDisk"]["deleteOption"] == "Delete"
    assert [one["deleteOption"] for one in profile["dataDisks"]] == ["Detach"]
    assert "userData" not in vm["properties"]
    [account] = stage.fake.world.of_type("Microsoft.Storage/storageAccounts")
    assert account["properties"]["minimumTlsVersion"] == "TLS1_2"
    assert account["properties"]["allowBlobPublicAccess"] is False
    ports = {
        rule["properties"]["destinationPortRange"]
        for group in stage.fake.world.of_type("Microsoft.Network/networkSecurityGroups")
        for rule in group["properties"]["securityRules"]
    }
    assert ports == {"443", "80"}


def test_nothing_to_do_is_said_quickly(
    deployed: Stage, record_property: Callable[[str, str], None]
) -> None:
    began = time.monotonic()
    calls = deployed.calls(deployed.deploy)
    seconds = time.monotonic() - began
    record_property("case", f"nothing to do: {len(calls)} calls, {seconds:.1f} s")
    assert writes(calls) == []
    assert len(calls) <= 15, calls
    assert seconds < 3


def test_a_colleague_with_an_empty_folder_sees_and_changes_it(
    deployed: Stage, record_property: Callable[[str, str], None]
) -> None:
    other = deployed.colleague()
    seen = status(other.settings)
    assert seen["state"] == "ready"
    assert seen["drift"] == []
    mine, theirs = (client_environment(one.settings, password=True) for one in (deployed, other))
    assert mine["MLFLOW_TRACKING_PASSWORD"] == theirs["MLFLOW_TRACKING_PASSWORD"]
    deployed.log_run("before the colleague")
    before = seen["generation"]
    began = time.monotonic()
    calls = other.calls(partial(other.deploy, replace=True))
    record_property("case", f"replacement: {len(calls)} calls, {time.monotonic() - began:.1f} s")
    deployed.check_tidy()
    assert "before the colleague" in deployed.runs()
    deployed.log_run("with the new one")
    rollback(deployed.colleague("third").settings)
    deployed.check_tidy()
    assert {"before the colleague", "with the new one"} <= set(deployed.runs())
    found = status(deployed.settings)
    assert found["generation"] == before
    assert [event.outcome for event in history(deployed.settings)][-1] == "serving"


def test_a_plan_writes_nothing_and_tells_all(deployed: Stage) -> None:
    deployed.bake(NEW)
    rows: list[Any] = []
    calls = deployed.calls(
        lambda: rows.extend(plan_deploy(deployed.settings, image=None, replace=False))
    )
    assert writes(calls) == []
    told = [(one.action, one.what.split(" of ")[0]) for one in rows]
    number = deployed.seen().deployment.last_number + 1
    assert ("create", f"machine mlflow-{number}") in told
    calls = deployed.calls(lambda: rows.extend(plan_destroy(deployed.settings, with_data=True)))
    assert writes(calls) == []
    deleted = [one.what for one in rows if one.action == "delete"]
    assert f"storage account {deployed.seen().account.name}" in deleted
    assert any(what.startswith("disk mlflow-data") for what in deleted)
    same = plan_deploy(deployed.settings, image=OLD, replace=False)
    assert same == []


@pytest.mark.parametrize("fault", ["deaf", "broken", "migrates"])
def test_a_generation_that_fails_gives_way(deployed: Stage, fault: str) -> None:
    deployed.bake(NEW)
    deployed.machines.faults[NEW] = fault
    deployed.log_run(f"before one that is {fault}")
    runs, before = deployed.runs(), status(deployed.settings)["generation"]
    with pytest.raises(BakeryError) as failed:
        deployed.told(ready_seconds=3, boot_seconds=3).deploy(image=NEW)
    assert failed.value.tail or fault != "deaf", "the end of its console"
    deployed.machines.faults.clear()
    assert status(deployed.settings)["generation"] == before
    assert deployed.runs() == runs
    assert history(deployed.settings)[-1].outcome.startswith("undone: ")
    deployed.check_tidy()


def test_drift_is_told_and_mended(deployed: Stage) -> None:
    world = deployed.fake.world
    [group] = world.of_type("Microsoft.Network/networkSecurityGroups")
    rules = group["properties"]["securityRules"]
    rules[:] = [rule for rule in rules if rule["name"] != "bakery-http"]
    theirs = {**rules[0], "name": "theirs", "id": f"{rules[0]['id']}-theirs"}
    theirs["properties"] = {
        **rules[0]["properties"], "priority": 200, "destinationPortRange": "8080"
    }  # fmt: skip
    rules.append(theirs)
    told = status(deployed.settings)["drift"]
    assert any("was changed" in one for one in told)
    assert any("not ours: theirs" in one for one in told)
    deployed.deploy(image=OLD)
    [group] = world.of_type("Microsoft.Network/networkSecurityGroups")
    names = {rule["name"] for rule in group["properties"]["securityRules"]}
    assert names == {"bakery-https", "bakery-http", "theirs"}
    [told] = status(deployed.settings)["drift"]
    assert "theirs" in told
    rules = group["properties"]["securityRules"]
    rules[:] = [rule for rule in rules if rule["name"] != "theirs"]


def test_a_disk_that_was_detached_and_a_machine_that_was_deleted_come_back(
    deployed: Stage,
) -> None:
    deployed.log_run("before somebody was here")
    target = deployed.seen()
    generation = target.deployment.generation
    assert generation is not None
    target.machines.detach(generation.number, target.disks.id_of(target.data_disk))
    assert any("not attached" in one for one in status(deployed.settings)["drift"])
    deployed.deploy(image=OLD)
    deployed.check_tidy()
    deployed.seen().machines.remove(generation.number)
    assert any("is gone" in one for one in status(deployed.settings)["drift"])
    deployed.deploy(image=OLD)
    assert deployed.seen().drift() == []
    assert "before somebody was here" in deployed.runs()


def test_the_storage_key_is_rotated_by_its_pair(deployed: Stage) -> None:
    before = deployed.seen()
    old, keys = before.secrets.storage_key, before.account.keys()
    change(deployed.settings, password=False, storage_key=True)
    after = deployed.seen()
    now = after.account.keys()
    assert after.secrets.storage_key in now.values()
    assert after.secrets.storage_key != old
    assert not set(now.values()) & set(keys.values())
    assert after.secrets.previous_storage_key is None


def test_two_at_once_from_two_folders(deployed: Stage) -> None:
    with azure.opened(deployed.settings):
        with pytest.raises(BakeryError, match=r"\(process \d+\) is at work on mlflow since"):
            deployed.colleague("late").deploy(image=OLD)
        assert status(deployed.colleague("late").settings)["state"] == "ready", "one may look"
    deployed.colleague("late").deploy(image=OLD)


def test_the_lock_of_a_killed_run_does_not_hold_up_this_host(deployed: Stage) -> None:
    def die() -> None:
        with azure.opened(deployed.settings):
            os.kill(os.getpid(), 9)

    assert forked(die, deployed.folder / "dead.log") == -9
    began = time.monotonic()
    deployed.deploy(image=OLD)
    assert time.monotonic() - began < 30


def test_storage_alone_and_then_the_rest(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    blob = storage(stage.settings)
    assert stage.named(VMS) == []
    assert stage.named("Microsoft.Network/publicIPAddresses") == []
    storage(stage.settings)
    stage.deploy()
    stage.check_tidy()
    assert stage.seen().account.name == blob.account


def test_destroy_keeps_the_data_unless_told_and_can_be_cut_off(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    stage.fake.world.put(
        {
            "id": f"/subscriptions/{stage.fake.subscription}/resourceGroups/mlflow-bakery/providers"
            "/Microsoft.Compute/disks/theirs",
            "name": "theirs", "type": "Microsoft.Compute/disks", "location": "westeurope",
            "properties": {"diskState": "Unattached", "provisioningState": "Succeeded"},
        }
    )  # fmt: skip
    stage.deploy()
    stage.log_run("of before")
    destroy(stage.colleague().settings, with_data=False)
    assert stage.named(VMS) == stage.named("Microsoft.Network/networkInterfaces") == []
    assert stage.named("Microsoft.Compute/disks") == ["mlflow-data", "theirs"]
    stage.deploy()
    assert "of before" in stage.runs()
    stage.fake.fault("answer", method="DELETE", path="publicIPAddresses", status=409, times=99)
    with pytest.raises(BakeryError, match="not everything could be removed: public address"):
        destroy(stage.settings, with_data=True)
    assert len(stage.named("Microsoft.Storage/storageAccounts")) == 1, "the state goes last"
    stage.fake.faults.clear()
    stage.fake.fault("kill", method="DELETE", path="storageAccounts", after=True)
    log = stage.folder / "killed.log"
    assert forked(lambda: destroy(stage.settings, with_data=True), log) == -9
    stage.fake.faults.clear()
    destroy(stage.colleague("last").settings, with_data=True)
    left = {one["id"].split("/providers/")[-1] for one in stage.fake.world.resources.values()}
    ours = {one for one in left if "/galleries/" not in one and "resourceGroups" not in one}
    assert ours == {"Microsoft.Compute/disks/theirs"}


def test_with_an_identity_there_is_no_key(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    keyless = stage.told(azure_artifact_access="identity")
    target = AzureTarget(keyless.settings)
    assert target.identity is not None
    target.group.ensure()
    target.account.ensure()
    [account] = stage.fake.world.of_type("Microsoft.Storage/storageAccounts")
    assert account["properties"]["allowSharedKeyAccess"] is False
    target.identity.ensure(target.account.name)
    first = target.identity.facts()
    target.identity.ensure(target.account.name)
    assert target.identity.facts() == first
    [role] = stage.fake.world.of_type("Microsoft.Authorization/roleAssignments")
    assert role["properties"]["principalId"] == first["principalId"]
    assert target.keys == {}
    target.identity.remove(target.account.name)
    assert target.identity.facts() == {}
    assert stage.fake.world.of_type("Microsoft.Authorization/roleAssignments") == []


def test_another_size_is_tried(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.fake.catalogue.not_available.add("standard_b2s")
    stage.fake.catalogue.no_capacity.add("standard_b2als_v2")
    stage.deploy()
    [vm] = stage.fake.world.of_type(VMS)
    assert vm["properties"]["hardwareProfile"]["vmSize"] == "Standard_B2ls_v2"
    stage.check_tidy()


def test_what_is_refused_before_anything_is_made(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(taken_names=["taken"], taken_labels=["taken"])
    before = set(stage.fake.world.resources)
    for given, words in (
        ({"storage_account": "taken"}, "cannot be used"),
        ({"hostname": "taken.westeurope.cloudapp.azure.com"}, "belongs to somebody else"),
        ({"azure_location": "northeurope"}, "is in westeurope"),
    ):
        with pytest.raises(InputError, match=words) as refused:
            stage.told(**given).deploy()
        assert refused.value.hint
    with pytest.raises(InputError, match=r"is not deployed|no deployment is called"):
        status(stage.settings)
    assert set(stage.fake.world.resources) == before


def test_a_name_of_ones_own_must_lead_to_the_address_first(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage().told(hostname="runs.example.test")
    with pytest.raises(InputError, match="does not lead to 127") as refused:
        stage.deploy()
    assert "CNAME record runs.example.test -> mlflow-" in refused.value.hint
    assert stage.named(VMS) == []


def test_what_is_not_ours_is_not_touched(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    theirs = {
        "id": f"/subscriptions/{stage.fake.subscription}/resourceGroups/mlflow-bakery/providers"
        "/Microsoft.Network/virtualNetworks/mlflow-vnet",
        "name": "mlflow-vnet", "type": "Microsoft.Network/virtualNetworks",
        "location": "westeurope", "properties": {"provisioningState": "Succeeded"},
    }  # fmt: skip
    stage.fake.world.put(theirs)
    with pytest.raises(InputError, match="does not carry our tags"):
        stage.deploy()
    assert "tags" not in theirs


@pytest.mark.parametrize("path", ["storageAccounts/", "/disks/", "networkSecurityGroups/"])
def test_what_failed_as_it_was_made_is_made_by_the_next_call(
    make_stage: Callable[..., Stage], path: str
) -> None:
    stage = make_stage()
    stage.fake.fault("fail", method="PUT", path=path, code="InternalExecutionError")
    with pytest.raises(BakeryError, match="InternalExecutionError"):
        stage.deploy()
    stage.fake.faults.clear()
    stage.deploy()
    stage.check_tidy()


def test_a_policy_against_keys_is_explained(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(forbid_keys=True)
    with pytest.raises(BakeryError, match="RequestDisallowedByPolicy") as refused:
        stage.deploy()
    assert "azure_artifact_access" in refused.value.hint


def test_a_login_that_is_none_is_explained(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage()
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(InputError, match="principal's secret is wrong"):
        status(stage.settings)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    monkeypatch.setenv("PATH", str(stage.folder / "bin"))
    (stage.folder / "bin" / "logged-out").touch()
    with pytest.raises(InputError, match="not logged in to Azure"):
        status(stage.settings)


def test_stop_and_start(deployed: Stage) -> None:
    stop(deployed.settings)
    assert status(deployed.settings)["state"] == "stopped"
    assert deployed.seen().drift() == []
    deployed.deploy(image=OLD)
    deployed.check_tidy()


def test_commands_in_a_machine(deployed: Stage) -> None:
    target = deployed.seen()
    generation = target.deployment.generation
    assert isinstance(generation, Generation)
    answer = target.execute(generation, ["sh", "-c", "cat; echo e >&2; exit 4"], stdin="s'\"\n")
    assert (answer.code, answer.out, answer.err) == (4, "s'\"\n", "e\n")
    assert "login:" in target.console(generation)


def test_settings_of_the_stage_are_settings_of_users(deployed: Stage) -> None:
    assert set(deployed.given) <= set(settings_module.Settings.model_fields)
    assert Path(str(deployed.settings.azure_ca_bundle)).exists()
