"""What every part of the Azure target works with."""

from functools import cached_property

from bakery.azure.clients import Clients
from bakery.azure.names import Names
from bakery.azure.operations import Operations
from bakery.settings import Settings


class Azure:
    """The subscription and resource group that the settings name."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients | None = None,
        operations: Operations | None = None,
    ) -> None:
        self.settings = settings
        self.clients = clients or Clients(settings)
        self.operations = operations or Operations(settings.azure_polling_seconds)

    def told(self, **known: str) -> "Azure":
        """Return the same, with settings that are known from what is there already."""
        return Azure(self.settings.model_copy(update=known), self.clients, self.operations)

    @cached_property
    def names(self) -> Names:
        """The names of the deployment's resources."""
        return Names(self.settings)

    @property
    def group(self) -> str:
        """The resource group."""
        return self.settings.azure_resource_group

    @property
    def location(self) -> str:
        """The region."""
        return self.settings.azure_location
