"""Network, security group and public address; the address moves from machine to machine."""

from dataclasses import replace
from typing import Any

from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import as_dict, found
from bakery.azure.settings import words
from bakery.azure.wanted import Body, Wanted
from bakery.errors import BakeryError, InputError

_PREFIX, _SUBNET = "10.20.0.0/24", "machines"
RULES = "bakery-"
"""What the names of our rules begin with; others are somebody else's."""


class Network:
    """What all generations of a deployment are reached by."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._client = azure.clients.network
        self._holder: str | None = None

    @explained("check the host name")
    def check_label(self) -> None:
        """Refuse a DNS label that somebody else has.

        Raises:
            InputError: It is taken, or it is none.
        """
        names = self._azure.names
        if self.find_address() is not None:
            return
        ask = self._client.check_dns_name_availability
        answer = found(lambda: ask(self._azure.location, domain_name_label=names.dns_label))
        if answer is not None and not answer.available:
            raise InputError(
                f"the host name {names.dns_label}{names.dns_suffix} belongs to somebody else",
                hint="set another hostname, or leave it out and one is made up",
            )

    @property
    def wanted(self) -> list[Wanted]:
        """How security group, network and address should be, in the order of their making."""
        return [self._security_group, self._network, self._address]

    @property
    def security_group_id(self) -> str:
        """The full id of the security group."""
        name = self._azure.names.security_group
        return self._azure.names.id_of("Microsoft.Network/networkSecurityGroups", name)

    @property
    def subnet_id(self) -> str:
        """The full id of the subnet that machines are in."""
        network = self._azure.names.id_of(
            "Microsoft.Network/virtualNetworks", self._azure.names.network
        )
        return f"{network}/subnets/{_SUBNET}"

    @property
    def address_id(self) -> str:
        """The full id of the public address."""
        name = self._azure.names.address
        return self._azure.names.id_of("Microsoft.Network/publicIPAddresses", name)

    def find_security_group(self) -> Any:
        """Return the security group as Azure knows it, or None."""
        name = self._azure.names.security_group
        return found(lambda: self._client.network_security_groups.get(self._azure.group, name))

    # -- the address -------------------------------------------------------------------------

    def find_address(self) -> Any:
        """Return the public address as Azure knows it, or None."""
        return found(self._look_at_address)

    def _look_at_address(self) -> Any:
        name = self._azure.names.address
        address = self._client.public_ip_addresses.get(self._azure.group, name)
        configuration = address.ip_configuration
        # .../networkInterfaces/NAME/ipConfigurations/main
        self._holder = str(configuration.id).split("/")[-3] if configuration else ""
        return address

    def holder(self) -> str:
        """Return the name of the network interface that has the address; empty: none has."""
        if self._holder is None:
            self.find_address()
        return self._holder or ""

    @explained("move the public address")
    def move_address(self, interface: str) -> None:
        """Give the address to a network interface, and take it from the one that has it."""
        self._holder = None
        before = self.holder()
        if before.lower() == interface.lower():
            return
        self._holder = None
        if before:
            self._set_address(before, None)
        self._set_address(interface, {"id": self.address_id})
        self._holder = interface

    def _set_address(self, interface: str, address: Body | None) -> None:
        nics: Any = self._client.network_interfaces
        group = self._azure.group
        model = found(lambda: nics.get(group, interface))
        if model is None:
            if address is None:
                return
            raise BakeryError(f"the network interface {interface} is gone", hint="./inv deploy")
        body = as_dict(model, writable=True)
        main = body["properties"]["ipConfigurations"][0]["properties"]
        main.pop("publicIPAddress", None)
        if address is not None:
            main["publicIPAddress"] = address
        self._azure.operations.insist(
            lambda: nics.begin_create_or_update(group, interface, body).result()
        )

    # -- network interfaces ------------------------------------------------------------------

    def ensure_interface(self, name: str, tags: dict[str, str]) -> str:
        """Make a generation's network interface, without the address; return its full id."""
        body: Body = {
            "location": self._azure.location,
            "tags": tags,
            "properties": {
                "ipConfigurations": [
                    {
                        "name": "main",
                        "properties": {
                            "privateIPAllocationMethod": "Dynamic",
                            "subnet": {"id": self.subnet_id},
                        },
                    }
                ]
            },
        }
        nics: Any = self._client.network_interfaces
        model = found(lambda: nics.get(self._azure.group, name))
        if model is None:
            put = nics.begin_create_or_update
            model = self._azure.operations.insist(
                lambda: put(self._azure.group, name, body).result()
            )
        return str(model.id)

    # -- as it should be ---------------------------------------------------------------------

    @property
    def _security_group(self) -> Wanted:
        rules = [_rule("https", 1000, "443"), _rule("http", 1010, "80")]
        sources = words(self._azure.settings.azure_ssh_sources or "")
        if sources:
            rules.append(_rule("ssh", 1020, "22", sources))
        ours = {one["name"] for one in rules}

        def without_stale(body: Body) -> Body:
            rows = body["properties"].get("securityRules", [])
            kept = [r for r in rows if not r["name"].startswith(RULES) or r["name"] in ours]
            return {**body, "properties": {**body["properties"], "securityRules": kept}}

        return self._wanted(
            "the network security group", self._azure.names.security_group,
            self._client.network_security_groups,
            {"properties": {"securityRules": rules}}, without_stale,
        )  # fmt: skip

    @property
    def _network(self) -> Wanted:
        subnet = {
            "name": _SUBNET,
            "properties": {
                "addressPrefix": _PREFIX,
                "networkSecurityGroup": {"id": self.security_group_id},
                # A machine without the public address reaches nothing outside.
                "defaultOutboundAccess": False,
            },
        }
        properties = {"addressSpace": {"addressPrefixes": [_PREFIX]}, "subnets": [subnet]}
        return self._wanted(
            "the virtual network", self._azure.names.network,
            self._client.virtual_networks, {"properties": properties},
        )  # fmt: skip

    @property
    def _address(self) -> Wanted:
        properties = {
            "publicIPAllocationMethod": "Static",
            "publicIPAddressVersion": "IPv4",
            "dnsSettings": {"domainNameLabel": self._azure.names.dns_label},
        }
        wanted = self._wanted(
            "the public address", self._azure.names.address,
            self._client.public_ip_addresses,
            {"sku": {"name": "Standard"}, "properties": properties},
        )  # fmt: skip
        return replace(wanted, get=self._look_at_address)

    def _wanted(self, kind: str, name: str, client: Any, body: Body, *drop: Any) -> Wanted:
        azure = self._azure
        whole = {"location": azure.location, "tags": azure.names.tags(), **body}
        return Wanted(
            f"{kind} {name}",
            whole,
            lambda: client.get(azure.group, name),
            lambda sent: azure.operations.insist(
                lambda: client.begin_create_or_update(azure.group, name, sent).result()
            ),
            *drop,
        )


def _rule(name: str, priority: int, port: str, sources: list[str] | None = None) -> Body:
    where = {"sourceAddressPrefixes": sources} if sources else {"sourceAddressPrefix": "*"}
    return {
        "name": f"{RULES}{name}",
        "properties": {
            "priority": priority,
            "direction": "Inbound",
            "access": "Allow",
            "protocol": "Tcp",
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": port,
            **where,
        },
    }
