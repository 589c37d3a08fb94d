"""What all generations of an Azure deployment share: state, account, network, data disk."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from bakery import credentials
from bakery.azure.access import Access, resolves_to
from bakery.azure.account import Account
from bakery.azure.context import Azure
from bakery.azure.disks import Disks
from bakery.azure.errors import explained
from bakery.azure.group import Group
from bakery.azure.identity import Identity
from bakery.azure.machines import Machines
from bakery.azure.network import Network
from bakery.azure.store import CONTAINER, Store
from bakery.errors import BakeryError, InputError
from bakery.log import step
from bakery.settings import Settings
from bakery.state import Deployment, Secrets, whoever
from bakery.targets.base import BlobAccess

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient


class AzureGround:
    """The lasting parts of a deployment in Azure, and what it remembers."""

    def __init__(self, settings: Settings, *, look_only: bool = False) -> None:
        """Find out what is there; with `look_only` nothing is locked, and nothing may be changed.

        Raises:
            InputError: The settings name another place than the deployment is in.
        """
        self.azure = Azure(settings)
        self.account = Account(self.azure)
        self._adopt_place()
        self.settings = self.azure.settings
        self.deployment = Deployment(name=settings.name, id=self.azure.names.id)
        self._locks: ExitStack | None = None if look_only else ExitStack()
        self._store: Store | None = None
        self._secrets: Secrets | None = None

    # -- its parts -------------------------------------------------------------------------------

    @cached_property
    def group(self) -> Group:
        """The resource group."""
        return Group(self.azure)

    @cached_property
    def net(self) -> Network:
        """Network, security group, public address."""
        return Network(self.azure)

    @cached_property
    def disks(self) -> Disks:
        """The data disk and its snapshots."""
        return Disks(self.azure)

    @cached_property
    def machines(self) -> Machines:
        """The virtual machines."""
        return Machines(self.azure)

    @cached_property
    def access(self) -> Access:
        """The way into them."""
        return Access(self.azure, alone=self._locks is not None)

    @cached_property
    def identity(self) -> Identity | None:
        """The identity of the machines; None where they have the account's key."""
        return None if self.account.by_key else Identity(self.azure)

    # -- state -----------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The deployment's state in Blob, under its lease when this run may change things.

        Raises:
            BakeryError: There is no storage account, or another run is at work.
        """
        if self._store is None:
            store = self._unlocked
            if self._locks is not None:
                self._locks.enter_context(store.locked())
                self.azure.operations.remember_in(store, self.azure.clients.taken_up)
                self.azure.operations.finish_left()
            self._store = store
        return self._store

    @cached_property
    def _unlocked(self) -> Store:
        return Store(self._service(next(iter(self.keys.values()), None)), self.settings.name)

    def _service(self, key: SecretStr | None) -> "BlobServiceClient":
        return self.azure.clients.blobs(
            self.account.endpoint, self.account.name, key.get_secret_value() if key else None
        )

    def recall(self) -> bool:
        """Read what is remembered, if anything is; return whether there was a deployment.

        Raises:
            BakeryError: Another run is at work; says whose.
        """
        if self.account.find() is None or not self.has_state():
            return False
        found = self.store.load()
        if found is None:
            return False
        self.deployment = found
        if self.settings.hostname is None and found.hostname:
            self.azure = self.azure.told(hostname=found.hostname)
            self.settings = self.azure.settings
        return True

    def has_state(self) -> bool:
        """Return whether there is a place for the state: a kill may have come before it."""
        return self._unlocked.exists()

    def close(self) -> None:
        """Let others at the deployment."""
        self.access.finish()
        if self._locks is not None:
            self._locks.close()

    @property
    def secrets(self) -> Secrets:
        """What clients and machines log in with."""
        if self._secrets is None:
            self._secrets = self.store.load_secrets()
        if self._secrets is None:
            raise BakeryError("the deployment's secrets are gone", hint="./inv deploy")
        return self._secrets

    def save(self) -> None:
        """Write the deployment's facts, in one piece."""
        self.store.save(self.deployment)

    def save_secrets(self, values: Secrets) -> None:
        """Write the secrets."""
        self.store.save_secrets(values)
        self._secrets = values

    # -- what lives as long as the deployment ----------------------------------------------------

    def check(self) -> None:
        """Refuse what cannot work, before anything is made.

        Raises:
            InputError: With what to do about it.
        """
        deployment = self.deployment
        if deployment.data_disk_served and self.disks.known(self.data_disk) is None:
            raise InputError(
                f"the disk {self.data_disk} is gone: it held the runs of {deployment.name}",
                hint="make one of that name from a snapshot, or begin with an empty one and"
                " restore a backup: ./inv deploy --new-data-disk, then ./inv restore newest",
            )
        if deployment.generation is None:
            self.group.exists()  # in another region, it is refused
            self.group.register_providers()
            self.check_names()

    def check_names(self) -> None:
        """Refuse names that others have.

        Raises:
            InputError: Says which.
        """
        if self.deployment.generation is None:
            self.account.check_name()
            self.net.check_label()

    def settle(self) -> None:
        """Fix the deployment's name, addresses and secrets; those given win over those kept."""
        if self.account.find() is None:
            with step("Resource group"):
                self.group.ensure()
                self.group.note(f"deploy, begun by {whoever()}")
        with step("Storage account"):
            self.account.ensure()
            if self._store is None:
                self.account.ensure_container(CONTAINER)
        deployment, settings = self.deployment, self.settings
        deployment.hostname = self.azure.names.hostname
        deployment.username = settings.username
        deployment.storage_account = self.account.name
        deployment.storage_container = settings.storage_container
        deployment.own_certificate = settings.certificate is not None
        deployment.data_disk = deployment.data_disk or self.azure.names.data_disk
        new = self.store.load() is None
        self.save_secrets(self._settled(self.store.load_secrets()))
        self.save()
        if new:
            self.group.note("")

    def foundations(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Give the steps that make container, network, address and data disk."""
        yield "Artifact container", self._make_container
        yield "Network and public address", self._make_network
        identity = self.identity
        if identity is not None:
            yield "Identity of the machines", lambda: identity.ensure(self.account.name)
        yield "Data disk", self._make_data_disk

    def make_storage(self) -> None:
        """Make the artifact store alone: account, key and container."""
        self._make_container()

    @property
    def blob(self) -> BlobAccess:
        """The artifact store as this host reaches it."""
        return BlobAccess(
            account=self.account.name,
            container=self.deployment.storage_container,
            key=self.secrets.storage_key,
            endpoint=self.account.endpoint,
        )

    def renew_storage_key(self, given: SecretStr | None = None) -> None:
        """Let the account's other key count, made anew; the one until now stays valid.

        Raises:
            InputError: A key cannot be chosen, or there is none.
        """
        if given is not None:
            raise InputError("Azure makes the storage keys itself", hint="./inv rotate")
        if not self.account.by_key:
            raise InputError("there is no storage key: the machines have an identity")
        secrets = self.secrets
        if secrets.previous_storage_key is not None:
            return  # made by a run that was cut off
        self.store.use(self._service(secrets.storage_key))
        self.account.renew_key(self._other_key())
        self._forget_keys()
        key = self.keys[self._other_key()]
        self.save_secrets(credentials.with_storage_key(secrets, key))

    def retire_storage_key(self) -> None:
        """End the storage key that counted before: Azure makes it anew, and nobody reads it."""
        if self.secrets.previous_storage_key is None:
            return
        self.store.use(self._service(self.secrets.storage_key))
        self.account.renew_key(self._other_key())
        self._forget_keys()
        self.save_secrets(self.secrets.model_copy(update={"previous_storage_key": None}))

    def give_up_data_disk(self) -> None:
        """Make ready for an empty data disk in the place of one that is gone.

        Raises:
            InputError: It is still there.
        """
        deployment = self.deployment
        if self.disks.known(self.data_disk) is not None:
            raise InputError(
                f"the disk {self.data_disk} is there: it holds the runs of {deployment.name}",
                hint="--new-data-disk is for one that is gone",
            )
        deployment.data_disk_served = False
        deployment.data_disk_uuid = str(uuid.uuid4())
        deployment.previous = None  # it knows the disk that is gone
        # The machine that runs has it too: even after a kill right here it is replaced.
        deployment.environment_digest = ""
        self.save()

    @property
    def data_disk(self) -> str:
        """The name of the data disk that counts."""
        return self.deployment.data_disk or self.azure.names.data_disk

    @property
    def keys(self) -> dict[str, SecretStr]:
        """The account's keys, asked for once."""
        if self._keys is None:
            self._keys = self.account.keys()
        return self._keys

    _keys: dict[str, SecretStr] | None = None

    def grow_data_disk(self, gib: int) -> None:
        """Make the data disk so large, also under a machine; nothing to do when it is.

        Raises:
            InputError: It would become smaller.
        """
        disk = self.disks.known(self.data_disk)
        size = int(disk.disk_size_gb or 0) if disk is not None else 0
        if size > gib:
            raise InputError(
                f"the data disk has {size} GiB, and it never shrinks to {gib}",
                hint=f"data_disk_gib = {size}, or leave it out",
            )
        if disk is not None and size < gib:
            self.disks.grow(self.data_disk, gib)

    def preview_secrets(self) -> None:
        """Take the secrets that a deploy would use, without writing them anywhere."""
        self._secrets = self._settled(self.store.load_secrets())

    # -- inside ----------------------------------------------------------------------------------

    def _adopt_place(self) -> None:
        """Take region and account from the deployment that is there."""
        account = self.account.find()
        if account is None:
            return
        given, name = self.azure.settings.model_fields_set, str(account.name)
        if "azure_location" in given and account.location != self.azure.location:
            raise InputError(
                f"{self.azure.settings.name} is in {account.location}, not {self.azure.location}",
                hint="a deployment stays where it is: leave azure_location out",
            )
        if "storage_account" in given and name != self.azure.names.account:
            raise InputError(
                f"{self.azure.settings.name} has the storage account {name},"
                f" not {self.azure.names.account}",
                hint="its artifacts and its state are there: leave storage_account out",
            )
        self.azure = self.azure.told(azure_location=str(account.location), storage_account=name)
        self.account = Account(self.azure, account)

    def _settled(self, kept: Secrets | None) -> Secrets:
        """Return the secrets, with a storage key that the account really has."""
        known = list(self.keys.values())
        if not known:
            return credentials.settled(self.settings, kept, storage_key=SecretStr(""))
        given = self.settings.storage_access_key
        if given is not None and given not in known:
            raise InputError(
                f"AZURE_STORAGE_ACCESS_KEY is no key of {self.account.name}",
                hint="leave it out: the key is read from Azure",
            )
        if kept is not None and kept.storage_key in known:
            return credentials.settled(self.settings, kept, storage_key=kept.storage_key)
        return credentials.settled(self.settings, kept, storage_key=known[0])

    def _other_key(self) -> str:
        """Return the name of the key that does not count."""
        now = self.secrets.storage_key
        return next((name for name, key in self.keys.items() if key != now), "key1")

    def _forget_keys(self) -> None:
        self._keys = None

    def _make_container(self) -> None:
        self.account.ensure_container(self.deployment.storage_container)

    @explained("make the network")
    def _make_network(self) -> None:
        changed = [one.ensure(self.azure.names) for one in self.net.wanted]
        if any(changed) or not self.deployment.address:
            self.deployment.address = str(self.net.find_address().ip_address)
            self.save()
        self._check_hostname()

    def _check_hostname(self) -> None:
        """Refuse a name that does not lead here: nobody would sign a certificate for it.

        Raises:
            InputError: It leads elsewhere, or nowhere.
        """
        names, deployment = self.azure.names, self.deployment
        if names.hostname.endswith(names.dns_suffix) or deployment.own_certificate:
            return
        if not resolves_to(names.hostname, deployment.address):
            raise InputError(
                f"{names.hostname} does not lead to {deployment.address}, so that no certificate"
                " can be had for it",
                hint=f"create a CNAME record {names.hostname} ->"
                f" {names.dns_label}{names.dns_suffix}, wait until it resolves, then again",
            )

    def _make_data_disk(self) -> None:
        self.disks.ensure(self.data_disk, self.settings.data_disk_gib)
