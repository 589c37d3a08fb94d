"""All that exists in the fake's subscription, by lower-cased id; optionally kept in a file."""

import copy
import json
import threading
import uuid
from pathlib import Path
from typing import Any

from tests.azure.refusal import Refusal, conflict, not_found
from tests.azure.routing import Call

Resource = dict[str, Any]
PROVIDERS = (
    "Microsoft.Authorization", "Microsoft.Compute", "Microsoft.ManagedIdentity",
    "Microsoft.Network", "Microsoft.Resources", "Microsoft.Storage",
)  # fmt: skip
# Registered in every subscription.
_ALWAYS = {"Microsoft.Authorization", "Microsoft.Resources"}


class World:
    """The resources of one subscription, and what of them is never shown."""

    def __init__(self, *, registered: bool = False, file: Path | None = None) -> None:
        self.lock = threading.RLock()
        self.subscription = str(uuid.uuid4())
        self.tenant = str(uuid.uuid4())
        self.resources: dict[str, Resource] = {}
        self.hidden: dict[str, dict[str, Any]] = {}
        self.providers = {
            name: "Registered" if registered or name in _ALWAYS else "NotRegistered"
            for name in PROVIDERS
        }
        self._file = file
        if file is not None and file.exists():
            self._load(json.loads(file.read_text(encoding="utf-8")))

    # -- looking ----------------------------------------------------------------------------------

    def find(self, resource_id: str) -> Resource | None:
        """Return a resource by its id, whatever its case; the one that is kept, not a copy."""
        return self.resources.get(resource_id.lower().rstrip("/"))

    def get(self, resource_id: str) -> Resource:
        """Return a resource.

        Raises:
            Refusal: 404; there is none.
        """
        found = self.find(resource_id)
        if found is None:
            kind, name = split(resource_id)
            raise not_found(kind, name, group_of(resource_id))
        return found

    def of_type(self, kind: str, *, under: str = "") -> list[Resource]:
        """Return the resources of a type, such as Microsoft.Compute/disks, below an id."""
        return [
            one
            for key, one in sorted(self.resources.items())
            if one["type"].lower() == kind.lower() and key.startswith(under.lower())
        ]

    def secret(self, resource_id: str) -> dict[str, Any]:
        """Return what is kept of a resource but never shown."""
        return self.hidden.setdefault(resource_id.lower(), {})

    def check_place(self, call: Call) -> None:
        """Refuse a request for another subscription, an unregistered provider, no such group.

        Raises:
            Refusal: 404 or 409.
        """
        subscription = call.names.get("subscription")
        if subscription is not None and subscription.lower() != self.subscription:
            raise Refusal(
                404, "SubscriptionNotFound",
                f"The subscription '{subscription}' could not be found.",
            )  # fmt: skip
        parts = call.path.split("/")
        lowered = [part.lower() for part in parts]
        group = call.names.get("group")
        if group is not None and "providers" in lowered:
            self.get_group(group)
        deep = "providers" in lowered and len(parts) > lowered.index("providers") + 2
        if deep and lowered[-1] not in {"register", "unregister"}:
            self._check_provider(parts[lowered.index("providers") + 1])

    def get_group(self, name: str) -> Resource:
        found = self.find(f"/subscriptions/{self.subscription}/resourceGroups/{name}")
        if found is None:
            raise Refusal(
                404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found."
            )
        if found["properties"]["provisioningState"] == "Deleting":
            raise conflict(
                "ResourceGroupBeingDeleted",
                f"The resource group '{name}' is in deprovisioning state and cannot perform this"
                " operation.",
            )
        return found

    def _check_provider(self, namespace: str) -> None:
        state = {name.lower(): state for name, state in self.providers.items()}
        if state.get(namespace.lower()) == "NotRegistered":
            raise conflict(
                "MissingSubscriptionRegistration",
                f"The subscription is not registered to use namespace '{namespace}'. See"
                " https://aka.ms/rps-not-found for how to register subscriptions.",
            )

    # -- changing ---------------------------------------------------------------------------------

    def put(self, resource: Resource) -> Resource:
        """Remember a resource in its id's place."""
        self.resources[resource["id"].lower()] = resource
        return resource

    def drop(self, resource_id: str) -> None:
        """Forget a resource and all below it."""
        gone = resource_id.lower()
        for key in [key for key in self.resources if key == gone or key.startswith(f"{gone}/")]:
            del self.resources[key]
            self.hidden.pop(key, None)

    def save(self) -> None:
        """Write all of it down, if it is kept in a file."""
        if self._file is None:
            return
        part = self._file.with_name(f"{self._file.name}.part")
        with self.lock:
            part.write_text(json.dumps(self.as_json(), indent=1), encoding="utf-8")
        part.chmod(0o600)
        part.replace(self._file)

    def as_json(self) -> dict[str, Any]:
        """Return a copy of all of it."""
        with self.lock:
            return copy.deepcopy(
                {
                    "subscription": self.subscription, "tenant": self.tenant,
                    "resources": self.resources, "hidden": self.hidden,
                    "providers": self.providers,
                }
            )  # fmt: skip

    def _load(self, kept: dict[str, Any]) -> None:
        self.subscription, self.tenant = kept["subscription"], kept["tenant"]
        self.resources, self.hidden = kept["resources"], kept["hidden"]
        self.providers = kept["providers"]


def split(resource_id: str) -> tuple[str, str]:
    """Return a resource's type and name, such as ("Microsoft.Compute/disks", "data")."""
    parts = resource_id.strip("/").split("/")
    lowered = [part.lower() for part in parts]
    if "providers" not in lowered:
        return "Microsoft.Resources/resourceGroups", parts[-1]
    rest = parts[len(parts) - lowered[::-1].index("providers") :]
    return "/".join([rest[0], *rest[1::2]]), rest[-1]


def group_of(resource_id: str) -> str:
    """Return the resource group in an id; empty when there is none."""
    parts = resource_id.strip("/").split("/")
    return parts[3] if len(parts) > 3 and parts[2].lower() == "resourcegroups" else ""


def same(one: str, other: str) -> bool:
    """Return whether two ids are of one resource."""
    return one.lower().rstrip("/") == other.lower().rstrip("/")
