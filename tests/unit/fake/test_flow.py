"""What the fake lets pass: the whole life of a server, in each of the polling protocols."""

from typing import Any

import pytest

from tests.azure.clients import Clients
from tests.azure.fake import Fake
from tests.azure.machines import NoMachines, Output
from tests.azure.operations import STYLES
from tests.unit.fake.estate import HERE, Estate


@pytest.mark.parametrize("style", ["", *STYLES])
def test_a_server_comes_and_goes(fake: Fake, clients: Clients, estate: Estate, style: str) -> None:
    fake.options.style = style
    account: Any = {
        "location": HERE, "kind": "StorageV2", "sku": {"name": "Standard_LRS"},
        "properties": {"minimumTlsVersion": "TLS1_2", "allowBlobPublicAccess": False},
    }  # fmt: skip
    made = clients.storage.storage_accounts.begin_create("rg", "store", account).result()
    assert made.provisioning_state == "Succeeded"
    keys: Any = clients.storage.storage_accounts.list_keys("rg", "store")["keys"]
    assert [len(one["value"]) for one in keys] == [88, 88]
    public = estate.public()
    vm = estate.vm()
    assert vm.provisioning_state == "Succeeded"
    assert vm.os_profile.custom_data is None
    estate.card(public=public.id)
    disk = estate.disk()
    machines = clients.compute.virtual_machines
    attach: Any = {"dataDisksToAttach": [{"diskId": disk.id, "lun": 0}]}
    machines.begin_attach_detach_data_disks("rg", "one", attach).result()
    assert clients.compute.disks.get("rg", "data").disk_state == "Attached"
    copy: Any = {
        "location": HERE,
        "properties": {"creationData": {"createOption": "Copy", "sourceResourceId": disk.id}},
    }
    clients.compute.snapshots.begin_create_or_update("rg", "copy", copy).result()
    machines.begin_deallocate("rg", "one").result()
    view = machines.instance_view("rg", "one")
    assert "PowerState/deallocated" in [status.code for status in view.statuses or []]
    machines.begin_start("rg", "one").result()
    machines.begin_delete("rg", "one").result()
    left = {one.name for one in clients.resource.resources.list_by_resource_group("rg")}
    assert left == {"nsg", "net", "ip", "nic", "data", "copy", "store"}
    clients.resource.resource_groups.begin_delete("rg").result()
    assert not fake.world.resources


def test_commands_in_a_machine(fake: Fake, clients: Clients, estate: Estate) -> None:
    estate.vm()
    machines = fake.machines
    assert isinstance(machines, NoMachines)
    machines.output = Output(3, "x" * 5000, "oh")
    classic: Any = {"commandId": "RunShellScript", "script": ["id"]}
    done = clients.compute.virtual_machines.begin_run_command("rg", "one", classic).result()
    assert (done.value or [])[
        0
    ].message == f"Enable succeeded: \n[stdout]\n{'x' * 4096}\n[stderr]\noh"
    command: Any = {
        "location": HERE,
        "properties": {
            "source": {"script": "cat"},
            "protectedParameters": [{"name": "INPUT", "value": "hush"}],
        },
    }
    calls = clients.compute.virtual_machine_run_commands
    calls.begin_create_or_update("rg", "one", "go", command).result()
    found = calls.get_by_virtual_machine("rg", "one", "go", expand="instanceView")
    assert (found.instance_view.exit_code, found.instance_view.error) == (3, "oh")
    assert found.protected_parameters is None
    assert machines.scripts == [("id", {}), ("cat", {"INPUT": "hush"})]
    assert "hush" not in str(fake.journal.as_json())


def test_ids_are_compared_without_case(fake: Fake, clients: Clients, estate: Estate) -> None:
    estate.disk("Data")
    assert clients.compute.disks.get("RG", "dATA").name == "Data"


def test_an_operation_is_resumed_from_its_token(clients: Clients, estate: Estate) -> None:
    estate.network()
    estate.card()
    calls = clients.compute.virtual_machines
    body: Any = estate.vm_body()
    token = calls.begin_create_or_update("rg", "one", body).continuation_token()
    again = calls.begin_create_or_update("rg", "one", body, continuation_token=token)
    assert again.result().name == "one"
