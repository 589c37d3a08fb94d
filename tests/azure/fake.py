"""The fake as tests hold it: what exists, what it refuses, what goes wrong, and its address."""

import copy
import ipaddress
import itertools
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakery import hosts, tls
from tests.azure import login, server, views
from tests.azure.addresses import NIC, PUBLIC
from tests.azure.catalogue import Catalogue
from tests.azure.faults import Fault, Faults
from tests.azure.journal import Journal
from tests.azure.machines import Machine, Machines, NoMachines
from tests.azure.refusal import bad_request
from tests.azure.stores import NoStores, Stores
from tests.azure.vm_rules import VM
from tests.azure.vms import remove
from tests.azure.world import Resource, World, split

if TYPE_CHECKING:
    from tests.azure.operations import Operation


@dataclass
class Options:
    """How this Azure behaves; each can be changed while it runs."""

    location: str = "westeurope"
    style: str = ""
    """One of `operations.STYLES` for every long-running operation; empty: what Azure does."""
    polls: int = 1
    """So many polls are told that an operation goes on."""
    seconds: float = 0.0
    """How long an operation really takes."""
    latency: float = 0.0
    """Seconds before each answer."""
    retry_after: int = 0
    nic_reserved_seconds: float = 180.0
    role_delay_seconds: float = 0.0
    """A fresh principal is not found by role assignments for so long, unless its type is said."""
    registration_polls: int = 1
    forbid_keys: bool = False
    """A policy of the tenant forbids keys of storage accounts."""
    taken_names: list[str] = field(default_factory=list)
    """Storage accounts of others."""
    taken_labels: list[str] = field(default_factory=list)
    """DNS labels of others."""
    token_seconds: int = 3600
    resolve: bool = False
    """Let the DNS names of public addresses resolve on this host, by lines in /etc/hosts."""


class Fake:
    """One Azure: a subscription behind an HTTPS address on loopback."""

    def __init__(
        self,
        folder: Path,
        *,
        options: Options | None = None,
        registered: bool = False,
        machines: Machines | None = None,
        stores: Stores | None = None,
        keep: bool = False,
        echo: bool = False,
    ) -> None:
        """Make it, not yet answering.

        Args:
            folder: For its certificate, and with `keep` for `world.json`.
            options: How it behaves.
            registered: The resource providers are registered from the start.
            machines: What virtual machines are; by default, nothing that runs.
            stores: What storage accounts are.
            keep: Remember all over a restart of the fake.
            echo: Print each request.
        """
        self.folder = folder
        self.options = options or Options()
        folder.mkdir(parents=True, exist_ok=True)
        self.world = World(registered=registered, file=folder / "world.json" if keep else None)
        self.catalogue = Catalogue()
        self.faults = Faults()
        self.journal = Journal(echo=echo)
        self.operations: dict[str, Operation] = {}
        self.tokens = login.Tokens()
        self.machines = machines or NoMachines()
        self.stores = stores or NoStores()
        self.locations = {
            "westeurope": "West Europe", "northeurope": "North Europe", "eastus": "East US",
            "germanywestcentral": "Germany West Central", "uksouth": "UK South",
        }  # fmt: skip
        self.permissions: list[dict[str, Any]] = [
            {"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}
        ]
        self.denied: set[str] = set()
        """What the caller may not do: `register`, `roleAssignments`."""
        self.assertions: dict[str, dict[str, Any]] = {}
        """The tokens of workflows that were given out, each with what it says."""
        self.trusted_subject = login.SUBJECT
        """Whose token the application's federated credential trusts."""
        self.consoles: dict[str, str] = {}
        self._resolved: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self.certificate = tls.local_certificate(folder / "tls", "localhost", "127.0.0.1")
        self.url = ""

    @property
    def ca_file(self) -> Path:
        """The authority that signed this server's certificate, and those of its machines."""
        return tls.ca_file(self.folder / "tls")

    @property
    def subscription(self) -> str:
        return self.world.subscription

    @property
    def tenant(self) -> str:
        return self.world.tenant

    def fault(self, action: str, **values: Any) -> Fault:
        """Let something go wrong at a call; see `Fault`."""
        return self.faults.add(Fault(action, **values))

    def busy(self, resource_id: str) -> bool:
        """Return whether something is under way at a resource."""
        key = resource_id.lower()
        return any(
            one.resource == key and not one.ended.is_set() for one in self.operations.values()
        )

    def shown(self, resource: Resource | None) -> Resource:
        """Return a resource as a GET shows it."""
        if resource is None:
            return {}
        return copy.deepcopy(resource)

    def reference(self, resource_id: str, kind: str) -> Resource:
        """Return a resource that a body refers to.

        Raises:
            Refusal: 400; it is not there, or is of another type.
        """
        found = self.world.find(resource_id)
        if found is None or found["type"].lower() != kind.lower():
            raise bad_request(
                "InvalidResourceReference",
                f"Resource {resource_id} referenced by the request was not found, or is no {kind}.",
            )
        return found

    # -- what resources are made of ----------------------------------------------------------------

    def number(self) -> int:
        return next(self._numbers)

    def guid(self) -> str:
        return str(uuid.uuid4())

    def clock(self, seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    def now(self) -> str:
        return datetime.now(UTC).isoformat()

    def cores(self, family: str, *, but: str = "") -> int:
        """Return how many cores of a family, or of all, are in use."""
        used = 0
        for one in self.world.of_type(VM):
            size = self.catalogue.size(one["properties"]["hardwareProfile"]["vmSize"])
            off = self.world.secret(one["id"])["power"] == "deallocated"
            if size is None or off or one["id"].lower() == but.lower():
                continue
            used += size.cores if family in {"cores", size.family} else 0
        return used

    def new_address(self) -> str:
        """Return a public address that nobody has."""
        allotted = self.machines.allot_address()
        used = {one["properties"].get("ipAddress") for one in self.world.of_type(PUBLIC)}
        documentation = (str(one) for one in ipaddress.ip_network("203.0.113.0/24").hosts())
        return allotted or next(one for one in documentation if one not in used)

    def relink_addresses(self) -> None:
        """Let public addresses and machines know of each other, as the interfaces say."""
        holders: dict[str, str] = {}
        for card in self.world.of_type(NIC):
            for one in card["properties"]["ipConfigurations"]:
                public = one["properties"].get("publicIPAddress")
                if public is not None:
                    holders[public["id"].lower()] = one["id"]
        for public in self.world.of_type(PUBLIC):
            public["properties"].pop("ipConfiguration", None)
            if public["id"].lower() in holders:
                public["properties"]["ipConfiguration"] = {"id": holders[public["id"].lower()]}
        for vm in self.world.of_type(VM):
            if self.world.secret(vm["id"]).get("power") == "running":
                self.machines.changed(self.machine(vm))

    def resolve(self) -> None:
        """Let the DNS names of public addresses resolve on this host, where that is wanted."""
        wanted = {}
        for one in self.world.of_type(PUBLIC) if self.options.resolve else []:
            name = (one["properties"].get("dnsSettings") or {}).get("fqdn")
            if name is not None:
                wanted[name] = one["properties"]["ipAddress"]
        for name in self._resolved.keys() - wanted.keys():
            hosts.release(f"{self.tenant}-{name}")
        for name, address in wanted.items():
            if self._resolved.get(name) != address:
                hosts.claim(name, address, f"{self.tenant}-{name}")
        self._resolved = wanted

    def close(self) -> None:
        """Take back what was changed on this host."""
        self.options.resolve = False
        self.resolve()

    def machine(self, vm: Resource) -> Machine:
        """Return a virtual machine as what runs it sees it."""
        kept, values = self.world.secret(vm["id"]), vm["properties"]
        return Machine(
            id=vm["id"].lower(),
            size=values["hardwareProfile"]["vmSize"],
            image=kept["image"],
            custom_data=bytes.fromhex(kept["custom_data"]),
            user=values["osProfile"]["adminUsername"],
            keys=kept["keys"],
            hostname=values["osProfile"]["computerName"],
            disks={
                one["lun"]: one["managedDisk"]["id"].lower()
                for one in values["storageProfile"]["dataDisks"]
            },
            address=views.public_address(self.world, vm),
            doors=views.doors(self.world, vm),
        )

    def console_token(self, vm: Resource) -> str:
        """Return the secret part of an address where a machine's console can be read."""
        token = uuid.uuid4().hex
        self.consoles[token] = vm["id"]
        return token

    # -- the end of resources ----------------------------------------------------------------------

    def log(self, text: str) -> None:
        """Write down a bug of the fake itself."""
        with (self.folder / "fake.log").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def remove_group(self, path: str) -> None:
        """Remove a group and all in it."""
        for vm in self.world.of_type(VM, under=f"{path}/"):
            self.machines.delete(self.machine(vm))
        for one in self.world.of_type("Microsoft.Compute/disks", under=f"{path}/"):
            self.machines.delete_disk(one["id"].lower())
        for one in self.world.of_type("Microsoft.Storage/storageAccounts", under=f"{path}/"):
            self.stores.remove(one["name"])
        self.world.drop(path)
        self.relink_addresses()
        self.resolve()

    def vanish(self, resource_id: str) -> None:
        """Let a resource be gone, behind everybody's back."""
        with self.world.lock:
            found = self.world.get(resource_id)
            if split(resource_id)[0].lower() == VM.lower():
                remove(self, found)
            elif found["type"] == "Microsoft.Resources/resourceGroups":
                self.remove_group(found["id"])
            else:
                self.world.drop(resource_id)
                self.relink_addresses()
            self.world.save()


@contextmanager
def serving(folder: Path | None = None, *, port: int = 0, **values: Any) -> Iterator[Fake]:
    """Give a fake that answers on loopback, until the end of the block.

    Machines and stores that it was given are closed by whoever made them.
    """
    with tempfile.TemporaryDirectory(prefix="fake-azure-") as scratch:
        fake = Fake(folder or Path(scratch), **values)
        with server.answering(fake, port):
            try:
                yield fake
            finally:
                fake.close()
