"""Temporary resource groups of ours: made by a bake, deleted at its end, or else swept later."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.names import OWNER, OWNER_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "mlflow-bakery-tmp-"
_MADE_TAG = "mlflow-bakery-temporary"
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
OLD = timedelta(days=1)


@dataclass(frozen=True)
class Leftover:
    """A temporary resource group that is still there."""

    name: str
    made: datetime

    @property
    def old(self) -> bool:
        """Whether no bake can still be using it."""
        return datetime.now(UTC) - self.made > OLD


def temporary_name() -> str:
    """Return a name for a temporary group that no other has."""
    return f"{_PREFIX}{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(2)}"


def temporary_tags() -> dict[str, str]:
    """Return the tags by which a group is known as temporary, and as ours."""
    return {OWNER_TAG: OWNER, _MADE_TAG: f"{datetime.now(UTC):{_FORMAT}}"}


@explained("the temporary resource groups")
def leftovers(clients: Clients) -> list[Leftover]:
    """Return our temporary groups, old or not."""
    return list(_leftovers(clients))


@explained("the temporary resource group")
def remove(clients: Clients, name: str) -> bool:
    """Delete a temporary group with all that is in it; return whether it was there.

    One that does not carry our tags is left alone, whatever its name.
    """
    groups = clients.resources.resource_groups
    if name not in {one.name for one in _leftovers(clients)}:
        return False
    groups.begin_delete(name).result()
    return True


def _leftovers(clients: Clients) -> Iterator[Leftover]:
    for group in clients.resources.resource_groups.list():
        made = _made(group.tags or {})
        if made is not None and str(group.name).startswith(_PREFIX):
            yield Leftover(str(group.name), made)


def _made(tags: "Mapping[str, str]") -> datetime | None:
    if tags.get(OWNER_TAG) != OWNER:
        return None
    try:
        return datetime.strptime(tags.get(_MADE_TAG, ""), _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
