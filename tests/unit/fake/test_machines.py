"""What Azure refuses of virtual machines, each beside what it lets pass."""

import base64
from typing import Any

import pytest

from tests.azure.clients import Clients
from tests.azure.fake import Fake
from tests.unit.fake.estate import HERE, Estate
from tests.unit.fake.refused import refused


@pytest.fixture
def ready(estate: Estate) -> Estate:
    """A group with a network and an interface, but no machine."""
    estate.network()
    estate.card()
    return estate


def custom(size: int) -> str:
    return base64.b64encode(b"#" * size).decode()


def test_custom_data_of_65535_bytes_and_no_more(ready: Estate) -> None:
    body = ready.vm_body()
    body["properties"]["osProfile"]["customData"] = custom(65_536)
    with refused("InvalidParameter", 400):
        ready.put_vm("one", body)
    body["properties"]["osProfile"]["customData"] = "not base64!"
    with refused("InvalidParameter", 400):
        ready.put_vm("one", body)
    body["properties"]["osProfile"]["customData"] = custom(65_535)
    ready.put_vm("one", body)


def test_custom_data_never_changes(ready: Estate, clients: Clients) -> None:
    body = ready.vm_body()
    ready.put_vm("one", body)
    body["properties"]["osProfile"]["customData"] = custom(3)
    with refused("PropertyChangeNotAllowed", 409):
        ready.put_vm("one", body)
    ready.put_vm("one", ready.vm_body())
    kept: Any = clients.compute.virtual_machines.get("rg", "one")
    kept.tags = {"a": "b"}
    ready.put_vm("one", kept)


@pytest.mark.parametrize("user", ["admin", "root", "test", "User1"])
def test_forbidden_users(ready: Estate, user: str) -> None:
    body = ready.vm_body()
    profile = body["properties"]["osProfile"]
    profile["adminUsername"] = user
    profile["linuxConfiguration"]["ssh"]["publicKeys"][0]["path"] = (
        f"/home/{user}/.ssh/authorized_keys"
    )
    with refused("InvalidParameter", 400):
        ready.put_vm("one", body)


def test_a_machine_that_nobody_can_log_in_to(ready: Estate) -> None:
    body = ready.vm_body()
    body["properties"]["osProfile"]["linuxConfiguration"].pop("ssh")
    with refused("InvalidParameter", 400):
        ready.put_vm("one", body)


@pytest.mark.parametrize("name", ["-one", "o" * 65, "o/ne"])
def test_names_of_machines(ready: Estate, name: str) -> None:
    body = ready.vm_body()
    body["properties"]["osProfile"]["computerName"] = name
    with refused("InvalidParameter", 400):
        ready.put_vm("one", body)


def test_a_size_that_is_not_available(fake: Fake, ready: Estate) -> None:
    fake.catalogue.not_available = {"standard_b2s"}
    with refused("SkuNotAvailable", 409):
        ready.put_vm("one", ready.vm_body())
    other: Any = {"vmSize": "Standard_B2als_v2"}
    ready.put_vm("one", ready.vm_body(hardwareProfile=other))
    ready.card("second")
    with refused("InvalidParameter", 400):
        ready.put_vm("two", ready.vm_body("second", hardwareProfile={"vmSize": "Standard_X1"}))


def test_no_capacity_leaves_a_failed_machine_and_a_reserved_interface(
    fake: Fake, ready: Estate, clients: Clients
) -> None:
    fake.catalogue.no_capacity = {"standard_b2s"}
    with refused("AllocationFailed"):
        ready.put_vm("one", ready.vm_body())
    assert clients.compute.virtual_machines.get("rg", "one").provisioning_state == "Failed"
    clients.compute.virtual_machines.begin_delete("rg", "one").result()
    fake.catalogue.no_capacity = set()
    with refused("NicReservedForAnotherVm", 400):
        ready.put_vm("two", ready.vm_body())
    ready.put_vm("one", ready.vm_body())


def test_the_quota_of_cores(fake: Fake, ready: Estate, clients: Clients) -> None:
    fake.catalogue.quota = {"cores": 3}
    ready.put_vm("one", ready.vm_body())
    ready.card("second")
    with refused("OperationNotAllowed", 409):
        ready.put_vm("two", ready.vm_body("second"))
    usages = {one.name.value: one for one in clients.compute.usage.list(HERE)}
    assert (usages["cores"].current_value, usages["cores"].limit) == (2, 3)
    clients.compute.virtual_machines.begin_deallocate("rg", "one").result()
    ready.put_vm("two", ready.vm_body("second"))


@pytest.mark.parametrize(
    ("image", "code", "status"),
    [
        ({"publisher": "Canonical", "offer": "gone", "sku": "x", "version": "latest"},
         "PlatformImageNotFound", 404),
        ({"publisher": "Canonical", "offer": "ubuntu-22_04-lts", "sku": "server",
          "version": "1.2.3"}, "PlatformImageNotFound", 404),
        ({"publisher": "Canonical", "offer": "0001-com-ubuntu-pro-focal",
          "sku": "pro-20_04-lts-gen2", "version": "latest"}, "VMMarketplaceInvalidInput", 400),
        ({"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/galleries/g/"
                "images/i/versions/1.0.0"}, "GalleryImageNotFound", 404),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used(
    ready: Estate, image: dict[str, str], code: str, status: int
) -> None:
    body = ready.vm_body()
    body["properties"]["storageProfile"]["imageReference"] = image
    with refused(code, status):
        ready.put_vm("one", body)


def test_an_image_with_a_plan_and_its_plan(ready: Estate) -> None:
    body = ready.vm_body()
    body["properties"]["storageProfile"]["imageReference"] = {
        "publisher": "Canonical", "offer": "0001-com-ubuntu-pro-focal",
        "sku": "pro-20_04-lts-gen2", "version": "latest",
    }  # fmt: skip
    plan = {"publisher": "canonical", "product": "0001-com-ubuntu-pro-focal",
            "name": "pro-20_04-lts-gen2"}  # fmt: skip
    ready.put_vm("one", {**body, "plan": plan})


def test_versions_of_a_gallery(fake: Fake, ready: Estate, clients: Clients) -> None:
    source = ready.put_vm("one", ready.vm_body()).id
    compute = clients.compute
    with refused("ParentResourceNotFound", 404):
        compute.gallery_images.begin_create_or_update("rg", "g", "i", definition())
    gallery: Any = {"location": HERE}
    with refused("InvalidParameter", 400):
        compute.galleries.begin_create_or_update("rg", "with-hyphen", gallery)
    compute.galleries.begin_create_or_update("rg", "g", gallery).result()
    with refused("ParentResourceNotFound", 404):
        compute.gallery_image_versions.begin_create_or_update(
            "rg", "g", "i", "1.0.0", version(source)
        )
    compute.gallery_images.begin_create_or_update("rg", "g", "i", definition()).result()
    with refused("InvalidParameter", 400):
        compute.gallery_image_versions.begin_create_or_update(
            "rg", "g", "i", "1.0", version(source)
        )
    machines = compute.virtual_machines
    with refused("OperationNotAllowed", 409):
        machines.generalize("rg", "one")
    with refused("OperationNotAllowed", 409):
        compute.gallery_image_versions.begin_create_or_update(
            "rg", "g", "i", "1.0.0", version(source)
        )
    machines.begin_deallocate("rg", "one").result()
    machines.generalize("rg", "one")
    with refused("OperationNotAllowed", 409):
        machines.begin_start("rg", "one")
    made = compute.gallery_image_versions.begin_create_or_update(
        "rg", "g", "i", "1.0.0", version(source, excludeFromLatest=True)
    ).result()
    with refused("CannotDeleteResource", 409):
        compute.galleries.begin_delete("rg", "g")
    ready.card("second")
    body = ready.vm_body("second")
    assert made.id
    latest = made.id.rpartition("/versions/")[0]
    body["properties"]["storageProfile"]["imageReference"] = {"id": latest}
    with refused("GalleryImageNotFound", 404):
        ready.put_vm("two", body)
    kept = fake.world.get(made.id)["properties"]
    body["properties"]["storageProfile"]["imageReference"] = {"id": made.id}
    kept["provisioningState"] = "Failed"
    with refused("OperationNotAllowed", 409):
        ready.put_vm("two", body)
    kept["provisioningState"] = "Succeeded"
    kept["publishingProfile"]["targetRegions"] = [{"name": "East US"}]
    with refused("GalleryImageNotFound", 404):
        ready.put_vm("two", body)
    kept["publishingProfile"] = {"targetRegions": [{"name": "West Europe"}]}
    ready.put_vm("two", body)
    ready.card("third")
    body = ready.vm_body("third")
    body["properties"]["storageProfile"]["imageReference"] = {"id": latest}
    assert ready.put_vm("three", body).provisioning_state == "Succeeded"


def definition() -> Any:
    names = {"publisher": "a", "offer": "b", "sku": "c"}
    values = {"osType": "Linux", "osState": "Generalized", "identifier": names}
    return {"location": HERE, "properties": values}


def version(source: str | None, **profile: Any) -> Any:
    values = {
        "storageProfile": {"source": {"virtualMachineId": source}},
        "publishingProfile": {"targetRegions": [{"name": HERE}], **profile},
    }
    return {"location": HERE, "properties": values}


def test_interfaces_of_a_running_machine(ready: Estate, clients: Clients) -> None:
    ready.put_vm("one", ready.vm_body())
    ready.card("second")
    with refused("AddingOrDeletingNetworkInterfacesOnARunningVirtualMachineNotSupported", 409):
        ready.put_vm("one", ready.vm_body("second"))
    clients.compute.virtual_machines.begin_deallocate("rg", "one").result()
    none: Any = {"networkInterfaces": []}
    with refused("InvalidParameter", 400):
        ready.put_vm("one", ready.vm_body(networkProfile=none))
    ready.put_vm("one", ready.vm_body("second"))


def test_something_else_is_under_way(fake: Fake, ready: Estate, clients: Clients) -> None:
    ready.put_vm("one", ready.vm_body())
    fake.options.seconds = 0.3
    calls = clients.compute.virtual_machines
    poller = calls.begin_deallocate("rg", "one")
    with refused("ConflictingConcurrentWriteNotAllowed", 409):
        calls.begin_start("rg", "one")
    poller.result()
    calls.begin_start("rg", "one").result()


def test_a_command_in_a_machine_that_does_not_run(ready: Estate, clients: Clients) -> None:
    ready.put_vm("one", ready.vm_body())
    calls: Any = clients.compute.virtual_machines
    body = {"commandId": "RunShellScript", "script": ["true"]}
    calls.begin_run_command("rg", "one", body).result()
    calls.begin_deallocate("rg", "one").result()
    with refused("OperationNotAllowed", 409):
        calls.begin_run_command("rg", "one", body)
    managed: Any = {"location": HERE, "properties": {"source": {"script": "true"}}}
    commands = clients.compute.virtual_machine_run_commands
    with refused("OperationNotAllowed", 409):
        commands.begin_create_or_update("rg", "one", "go", managed)


def test_boot_diagnostics_only_where_they_are_on(ready: Estate, clients: Clients) -> None:
    body = ready.vm_body()
    body["properties"].pop("diagnosticsProfile")
    ready.put_vm("one", body)
    calls = clients.compute.virtual_machines
    with refused("OperationNotAllowed", 409):
        calls.retrieve_boot_diagnostics_data("rg", "one")
    body["properties"]["diagnosticsProfile"] = {"bootDiagnostics": {"enabled": True}}
    ready.put_vm("one", body)
    assert calls.retrieve_boot_diagnostics_data("rg", "one").serial_console_log_blob_uri


def test_what_goes_with_a_machine_and_what_stays(ready: Estate, clients: Clients) -> None:
    body = ready.vm_body()
    body["properties"]["networkProfile"]["networkInterfaces"][0]["properties"] = {
        "deleteOption": "Delete"
    }
    data = ready.disk()
    attach = {"lun": 0, "createOption": "Attach", "managedDisk": {"id": data.id}}
    body["properties"]["storageProfile"]["dataDisks"] = [attach]
    ready.put_vm("one", body)
    ready.card("second")
    other = ready.vm_body("second")
    other["properties"]["storageProfile"]["osDisk"] = {"createOption": "FromImage", "name": "kept"}
    ready.put_vm("two", other)
    for name in ("one", "two"):
        clients.compute.virtual_machines.begin_delete("rg", name).result()
    left = {one.name for one in clients.resource.resources.list_by_resource_group("rg")}
    assert left == {"nsg", "net", "data", "second", "kept"}
