"""The network of the training machine: apart from the server's, open for SSH from your ranges only.

Whatever is trained there may be anybody's code; it reaches the server by its public name, as every
client does, and no other way.
"""

from typing import Any

from bakery.azure import network_parts as parts
from bakery.azure.context import Azure
from bakery.azure.names import TRAINING
from bakery.azure.operations import found
from bakery.azure.settings import words
from bakery.azure.wanted import Wanted
from bakery.errors import InputError

_PREFIX = "10.21.0.0/24"


class TrainingNetwork:
    """What the training machine is reached by."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    @property
    def sources(self) -> list[str]:
        """Who may reach SSH.

        Raises:
            InputError: Nobody may.
        """
        sources = words(self._azure.settings.azure_ssh_sources or "")
        if not sources:
            raise InputError(
                "nobody may reach SSH: a training machine would be of no use",
                hint="set azure_ssh_sources to the ranges that train, such as 203.0.113.7/32",
            )
        return sources

    @property
    def wanted(self) -> list[Wanted]:
        """How security group, network and address should be, in the order of their making."""
        azure, names = self._azure, self._azure.names
        ssh = parts.rule("ssh", 1000, "22", self.sources)
        group, network = names.training_security_group, names.training_network
        return [
            parts.security_group(azure, group, [ssh], TRAINING),
            parts.virtual_network(azure, network, _PREFIX, group, TRAINING),
            parts.public_address(azure, names.training_address, TRAINING),
        ]

    def ensure_interface(self) -> str:
        """Make the machine's network interface with its public address; return its full id.

        A machine has no way out without an address, so it gets it at its birth.
        """
        names = self._azure.names
        return parts.ensure_interface(
            self._azure, TRAINING, names.training_network, names.training_address
        )

    def address(self) -> str:
        """Return the public address; empty when there is none."""
        clients: Any = self._azure.clients.network.public_ip_addresses
        name = self._azure.names.training_address
        model = found(lambda: clients.get(self._azure.group, name))
        return str(model.ip_address or "") if model else ""
