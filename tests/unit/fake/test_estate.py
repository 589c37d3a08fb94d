"""What Azure refuses of disks, networks, accounts and rights, each beside what it lets pass."""

from typing import Any

import pytest
import requests

from tests.azure import routing
from tests.azure.clients import Clients
from tests.azure.fake import Fake
from tests.unit.fake.estate import HERE, Estate
from tests.unit.fake.refused import refused

CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


# -- disks -----------------------------------------------------------------------------------------


def attach(clients: Clients, name: str, disk: str) -> None:
    body: Any = {"dataDisksToAttach": [{"diskId": disk, "lun": 0}]}
    clients.compute.virtual_machines.begin_attach_detach_data_disks("rg", name, body).result()


def test_a_disk_has_one_machine(fake: Fake, clients: Clients, estate: Estate) -> None:
    estate.vm()
    estate.card("second")
    estate.put_vm("two", estate.vm_body("second"))
    disk = str(estate.disk().id)
    attach(clients, "one", disk)
    attach(clients, "one", disk)
    with refused("ConflictingUserInput", 409):
        attach(clients, "two", disk)
    with refused("OperationNotAllowed", 409):
        clients.compute.disks.begin_delete("rg", "data")
    fake.options.seconds = 0.3
    body: Any = {"dataDisksToDetach": [{"diskId": disk}]}
    calls = clients.compute.virtual_machines
    leaving = calls.begin_attach_detach_data_disks("rg", "one", body)
    with refused("AttachDiskWhileBeingDetached", 409):
        attach(clients, "two", disk)
    leaving.result()
    fake.options.seconds = 0
    attach(clients, "two", disk)
    with refused("InvalidParameter", 400):
        calls.begin_attach_detach_data_disks("rg", "one", body)
    calls.begin_attach_detach_data_disks("rg", "two", body).result()
    clients.compute.disks.begin_delete("rg", "data").result()


def test_what_a_disk_can_be(clients: Clients, estate: Estate) -> None:
    with refused("InvalidParameter", 400):
        estate.disk("with space")
    with refused("InvalidParameter", 400):
        estate.disk(diskSizeGB=None)
    estate.disk()
    estate.disk(diskSizeGB=64)
    with refused("OperationNotAllowed", 409):
        estate.disk(diskSizeGB=32)
    copy = {"createOption": "Copy", "sourceResourceId": estate.id("Compute", "snapshots/none")}
    with refused("ResourceNotFound", 400):
        estate.disk("copy", creationData=copy)
    with refused("PropertyChangeNotAllowed", 409):
        estate.disk(creationData=copy, diskSizeGB=64)
    source = {"createOption": "Copy", "sourceResourceId": estate.id("Compute", "disks/data")}
    snapshot: Any = {"location": HERE, "properties": {"creationData": source, "incremental": True}}
    clients.compute.snapshots.begin_create_or_update("rg", "none", snapshot).result()
    assert estate.disk("copy", creationData=copy, diskSizeGB=None).disk_size_gb == 64


# -- networks --------------------------------------------------------------------------------------


def test_public_addresses(fake: Fake, clients: Clients, estate: Estate) -> None:
    calls: Any = clients.network.public_ip_addresses
    values = {"publicIPAllocationMethod": "Static"}
    with refused("IPv4BasicSkuPublicIpCountLimitReached", 400):
        calls.begin_create_or_update(
            "rg", "ip", {"location": HERE, "sku": {"name": "Basic"}, "properties": values}
        )
    with refused("StandardSkuPublicIPAddressesMustUseStaticAllocation", 400):
        calls.begin_create_or_update("rg", "ip", {"location": HERE, "sku": {"name": "Standard"}})
    fake.catalogue.public_ips = 2
    fake.options.taken_labels.append("theirs")
    made = estate.public()
    for label, code in (
        ("Served", "InvalidDomainNameLabel"),
        ("served", "DnsRecordInUse"),
        ("theirs", "DnsRecordInUse"),
    ):
        with refused(code, 400):
            estate.public("other", label)
    check = clients.network.check_dns_name_availability
    assert not check(HERE, domain_name_label="theirs").available
    assert check(HERE, domain_name_label="mine").available
    assert estate.public().ip_address == made.ip_address
    estate.public("other", "mine")
    with refused("PublicIPCountLimitReached", 400):
        estate.public("third", "third")


def test_a_public_address_in_use(clients: Clients, estate: Estate) -> None:
    estate.network()
    public = str(estate.public().id)
    estate.card("first", public)
    calls = clients.network.public_ip_addresses
    with refused("PublicIPAddressInUse", 400):
        estate.card("second", public)
    with refused("PublicIPAddressCannotBeDeleted", 400):
        calls.begin_delete("rg", "ip")
    estate.card("first")
    estate.card("second", public)
    clients.network.network_interfaces.begin_delete("rg", "second").result()
    calls.begin_delete("rg", "ip").result()


def test_an_interface_in_use_and_one_that_is_reserved(
    fake: Fake, clients: Clients, estate: Estate
) -> None:
    estate.vm()
    cards = clients.network.network_interfaces
    with refused("NicInUse", 400):
        cards.begin_delete("rg", "nic")
    with refused("NicInUse", 400):
        estate.put_vm("two", estate.vm_body())
    clients.compute.virtual_machines.begin_delete("rg", "one").result()
    with refused("NicReservedForAnotherVm", 400):
        cards.begin_delete("rg", "nic")
    fake.options.nic_reserved_seconds = 0
    estate.put_vm("one", estate.vm_body())
    clients.compute.virtual_machines.begin_delete("rg", "one").result()
    cards.begin_delete("rg", "nic").result()


def test_rules_of_a_security_group(clients: Clients, estate: Estate) -> None:
    groups: Any = clients.network.network_security_groups

    def put(*rules: dict[str, Any]) -> Any:
        body = {"location": HERE, "properties": {"securityRules": list(rules)}}
        return groups.begin_create_or_update("rg", "nsg", body).result()

    one, same, low = estate.rule("443", 100), estate.rule("80", 100), estate.rule("22", 99)
    for rules, code in (
        ((one, same), "SecurityRuleConflict"),
        ((low,), "SecurityRuleInvalidPriority"),
    ):
        with refused(code, 400):
            put(*rules)
    put(one, estate.rule("80", 110))
    single: Any = clients.network.security_rules
    with refused("SecurityRuleConflict", 400):
        single.begin_create_or_update("rg", "nsg", "port-22", estate.rule("22", 110))
    single.begin_create_or_update("rg", "nsg", "port-22", estate.rule("22", 120)).result()
    assert len(groups.get("rg", "nsg").security_rules) == 3
    put(one)
    assert [rule.name for rule in single.list("rg", "nsg")] == ["port-443"]


def test_what_others_need_is_not_deleted(clients: Clients, estate: Estate) -> None:
    with refused("InvalidResourceReference", 400):
        estate.card()
    estate.network()
    estate.card()
    with refused("InUseNetworkSecurityGroupCannotBeDeleted", 400):
        clients.network.network_security_groups.begin_delete("rg", "nsg")
    with refused("InUseSubnetCannotBeDeleted", 400):
        clients.network.virtual_networks.begin_delete("rg", "net")
    clients.network.network_interfaces.begin_delete("rg", "nic").result()
    clients.network.virtual_networks.begin_delete("rg", "net").result()
    clients.network.network_security_groups.begin_delete("rg", "nsg").result()


# -- groups, accounts, rights ----------------------------------------------------------------------


def test_resource_groups(clients: Clients, estate: Estate) -> None:
    groups: Any = clients.resource.resource_groups
    with refused("InvalidResourceGroup", 400):
        groups.create_or_update("ends.with.", {"location": HERE})
    with refused("LocationNotAvailableForResourceType", 400):
        groups.create_or_update("other", {"location": "mars"})
    with refused("InvalidResourceGroupLocation", 409):
        groups.create_or_update("rg", {"location": "eastus"})
    assert groups.create_or_update("RG", {"location": "West Europe", "tags": {"a": "b"}}).tags
    estate.disk()
    groups.begin_delete("rg").result()
    assert not groups.check_existence("rg")
    with refused("ResourceGroupNotFound", 404):
        estate.disk()


def account(**values: Any) -> Any:
    return {
        "location": HERE, "kind": "StorageV2", "sku": {"name": "Standard_LRS"},
        "properties": values,
    }  # fmt: skip


def test_storage_accounts(fake: Fake, clients: Clients, estate: Estate) -> None:
    calls: Any = clients.storage.storage_accounts
    fake.options.taken_names.append("theirs")
    for name, available in (("theirs", False), ("No", False), ("mine", True)):
        body = {"name": name, "type": "Microsoft.Storage/storageAccounts"}
        assert calls.check_name_availability(body).name_available is available
    with refused("StorageAccountAlreadyTaken", 409):
        calls.begin_create("rg", "theirs", account())
    with refused("AccountNameInvalid", 400):
        calls.begin_create("rg", "No-", account())
    with refused("InvalidValuesForRequestParameters", 400):
        calls.begin_create("rg", "mine", account(minimumTlsVersion="TLS1_0"))
    calls.begin_create("rg", "mine", account(allowBlobPublicAccess=False)).result()
    calls.begin_create("rg", "mine", account()).result()
    containers: Any = clients.storage.blob_containers
    with refused("ContainerNameInvalid", 400):
        containers.create("rg", "mine", "two--hyphens", {})
    with refused("PublicAccessNotPermitted", 409):
        containers.create("rg", "mine", "open", {"properties": {"publicAccess": "Blob"}})
    containers.create("rg", "mine", "closed", {})
    before = [key["value"] for key in calls.list_keys("rg", "mine")["keys"]]
    after = calls.regenerate_key("rg", "mine", {"keyName": "key1"})["keys"]
    assert after[0]["value"] != before[0]
    assert after[1]["value"] == before[1]


def test_a_policy_that_forbids_keys(fake: Fake, clients: Clients, estate: Estate) -> None:
    calls: Any = clients.storage.storage_accounts
    fake.options.forbid_keys = True
    with refused("RequestDisallowedByPolicy", 403):
        calls.begin_create("rg", "mine", account())
    calls.begin_create("rg", "mine", account(allowSharedKeyAccess=False)).result()
    with refused("KeyBasedAuthenticationNotPermitted", 403):
        calls.list_keys("rg", "mine")


def test_roles_for_a_fresh_identity(fake: Fake, clients: Clients, estate: Estate) -> None:
    resources: Any = clients.resource.resources
    identity = estate.id("ManagedIdentity", "userAssignedIdentities/mine")
    made = resources.begin_create_or_update_by_id(
        identity, {"location": HERE}, api_version=routing.IDENTITY
    ).result()
    role = f"/subscriptions/{fake.subscription}/providers/Microsoft.Authorization/roleDefinitions/"
    values = {
        "roleDefinitionId": role + CONTRIBUTOR,
        "principalId": made.as_dict()["properties"]["principalId"],
    }
    clients.storage.storage_accounts.begin_create("rg", "mine", account()).result()
    scope = estate.id("Storage", "storageAccounts/mine")
    where = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{fake.guid()}"

    def assign(**more: str) -> None:
        body = {"properties": {**values, **more}}
        resources.begin_create_or_update_by_id(where, body, api_version=routing.ROLES).result()

    fake.options.role_delay_seconds = 60
    with refused("PrincipalNotFound", 400):
        assign()
    fake.denied.add("roleAssignments")
    with refused("AuthorizationFailed", 403):
        assign(principalType="ServicePrincipal")
    fake.denied.clear()
    assign(principalType="ServicePrincipal")
    assert resources.check_existence_by_id(where, api_version=routing.ROLES)
    with refused("InvalidApiVersionParameter", 400):
        resources.get_by_id(where, api_version="2020-01-01")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("armRegionName eq 'westeurope' and armSkuName eq 'Standard_B2s'", {"B2s"}),
        ("serviceName eq 'Storage' and (meterName eq 'E4 LRS Disk' or meterName eq 'E6 LRS Disk')",
         {"E4 LRS Disk", "E6 LRS Disk"}),
        ("contains(meterName, 'Public IP')", {"Standard IPv4 Static Public IP"}),
        ("armSkuName eq 'Standard_None'", set()),
    ],
)  # fmt: skip
def test_retail_prices_need_no_login(fake: Fake, query: str, names: set[str]) -> None:
    answer = requests.get(
        f"{fake.url}/api/retail/prices", params={"$filter": query}, timeout=10,
        verify=str(fake.ca_file),
    ).json()  # fmt: skip
    assert {one["meterName"] for one in answer["Items"]} == names
    assert all(one["retailPrice"] > 0 for one in answer["Items"])
