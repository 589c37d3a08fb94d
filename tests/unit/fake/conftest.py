"""A fake and the real SDK's clients, for the tests of the fake itself."""

from collections.abc import Iterator

import pytest

from tests.azure.clients import Clients
from tests.azure.fake import Fake, serving
from tests.unit.fake.estate import Estate


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A subscription with all providers registered and nothing in it."""
    with serving(registered=True) as made:
        yield made


@pytest.fixture
def clients(fake: Fake) -> Clients:
    return Clients(fake)


@pytest.fixture
def estate(fake: Fake, clients: Clients) -> Estate:
    """A resource group, and what makes things in it."""
    made = Estate(fake, clients)
    clients.resource.resource_groups.create_or_update("rg", {"location": "westeurope"})
    return made
