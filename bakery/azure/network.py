"""Network, security group and public address; the address moves from machine to machine."""

from dataclasses import replace
from typing import Any

from bakery.azure import network_parts as parts
from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import as_dict, found
from bakery.azure.settings import words
from bakery.azure.wanted import Body, Wanted
from bakery.errors import BakeryError, InputError

_PREFIX = "10.20.0.0/24"


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

    def ensure_interface(self, number: int) -> str:
        """Make a generation's network interface, without the address; return its full id."""
        return parts.ensure_interface(self._azure, number, self._azure.names.network)

    # -- as it should be ---------------------------------------------------------------------

    @property
    def _security_group(self) -> Wanted:
        rules = [parts.rule("https", 1000, "443"), parts.rule("http", 1010, "80")]
        sources = words(self._azure.settings.azure_ssh_sources or "")
        if sources:
            rules.append(parts.rule("ssh", 1020, "22", sources))
        return parts.security_group(self._azure, self._azure.names.security_group, rules, None)

    @property
    def _network(self) -> Wanted:
        names = self._azure.names
        return parts.virtual_network(
            self._azure, names.network, _PREFIX, names.security_group, None
        )

    @property
    def _address(self) -> Wanted:
        names = self._azure.names
        wanted = parts.public_address(self._azure, names.address, None, names.dns_label)
        return replace(wanted, get=self._look_at_address)
