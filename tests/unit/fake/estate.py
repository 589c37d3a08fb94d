"""Bodies that Azure takes, and the calls that make a machine of them."""

import base64
from typing import Any

from azure.mgmt.compute.models import Disk, VirtualMachine
from azure.mgmt.network.models import NetworkInterface, PublicIPAddress, VirtualNetwork

from tests.azure.clients import Clients
from tests.azure.fake import Fake

HERE = "westeurope"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxz test"


class Estate:
    """Makes resources in the group `rg`, with what they need."""

    def __init__(self, fake: Fake, clients: Clients) -> None:
        self.fake, self.clients = fake, clients

    def id(self, kind: str, name: str) -> str:
        group = f"/subscriptions/{self.fake.subscription}/resourceGroups/rg"
        return f"{group}/providers/Microsoft.{kind}/{name}"

    def rule(self, port: str = "443", priority: int = 100) -> dict[str, Any]:
        values = {
            "priority": priority, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
            "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*",
            "destinationPortRange": port,
        }  # fmt: skip
        return {"name": f"port-{port}", "properties": values}

    def network(self) -> VirtualNetwork:
        groups = self.clients.network.network_security_groups
        body: Any = {"location": HERE, "properties": {"securityRules": [self.rule()]}}
        made = groups.begin_create_or_update("rg", "nsg", body).result()
        subnet = {"addressPrefix": "10.0.0.0/24", "networkSecurityGroup": {"id": made.id}}
        values = {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "one", "properties": subnet}],
        }
        nets = self.clients.network.virtual_networks
        net: Any = {"location": HERE, "properties": values}
        return nets.begin_create_or_update("rg", "net", net).result()

    def public(self, name: str = "ip", label: str = "served") -> PublicIPAddress:
        body: Any = {
            "location": HERE, "sku": {"name": "Standard"},
            "properties": {
                "publicIPAllocationMethod": "Static",
                "dnsSettings": {"domainNameLabel": label},
            },
        }  # fmt: skip
        calls = self.clients.network.public_ip_addresses
        return calls.begin_create_or_update("rg", name, body).result()

    def card(self, name: str = "nic", public: str | None = None) -> NetworkInterface:
        values: dict[str, Any] = {
            "subnet": {"id": self.id("Network", "virtualNetworks/net/subnets/one")}
        }
        if public is not None:
            values["publicIPAddress"] = {"id": public}
        body: Any = {
            "location": HERE,
            "properties": {"ipConfigurations": [{"name": "one", "properties": values}]},
        }
        calls = self.clients.network.network_interfaces
        return calls.begin_create_or_update("rg", name, body).result()

    def disk(self, name: str = "data", **values: Any) -> Disk:
        made = {"creationData": {"createOption": "Empty"}, "diskSizeGB": 32, **values}
        body: Any = {"location": HERE, "properties": made}
        return self.clients.compute.disks.begin_create_or_update("rg", name, body).result()

    def vm_body(self, card: str = "nic", **changed: Any) -> dict[str, Any]:
        ssh = {"publicKeys": [{"path": "/home/bakery/.ssh/authorized_keys", "keyData": _KEY}]}
        values: dict[str, Any] = {
            "hardwareProfile": {"vmSize": "Standard_B2s"},
            "storageProfile": {
                "imageReference": {
                    "publisher": "Canonical", "offer": "ubuntu-22_04-lts", "sku": "server",
                    "version": "latest",
                },
                "osDisk": {"createOption": "FromImage", "deleteOption": "Delete"},
            },
            "osProfile": {
                "computerName": "one", "adminUsername": "bakery",
                "customData": base64.b64encode(b"#cloud-config\n").decode(),
                "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": ssh},
            },
            "networkProfile": {
                "networkInterfaces": [{"id": self.id("Network", f"networkInterfaces/{card}")}]
            },
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        }  # fmt: skip
        return {"location": HERE, "properties": {**values, **changed}}

    def put_vm(self, name: str, body: Any) -> VirtualMachine:
        calls = self.clients.compute.virtual_machines
        return calls.begin_create_or_update("rg", name, body).result()

    def vm(self, name: str = "one") -> VirtualMachine:
        """Make a machine with everything that it needs."""
        self.network()
        self.card()
        return self.put_vm(name, self.vm_body())
