"""What all generations of a local deployment share: network, name, Azurite, data disk, secrets."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import SecretStr

from bakery import azurite, credentials, hosts, network, pool, ssh, tls
from bakery.data_disk import DataDisk
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.settings import Settings
from bakery.state import Deployment, DeploymentFolder, Secrets
from bakery.targets.base import BlobAccess


class LocalGround:
    """The lasting parts of a deployment on this host, and what it remembers."""

    def __init__(self, settings: Settings, disks: Path, folder: DeploymentFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.disks = disks
        self.driver = Nspawn()
        self.deployment = folder.load() or Deployment(name=settings.name)

    # -- state -----------------------------------------------------------------------------------

    @property
    def secrets(self) -> Secrets:
        """What clients and machines log in with."""
        found = self.folder.load_secrets()
        if found is None:
            raise BakeryError(f"{self.folder.secrets} is gone", hint="./inv deploy makes new ones")
        return found

    def save(self) -> None:
        """Write the deployment's facts, in one piece."""
        self.folder.save(self.deployment)

    def save_secrets(self, values: Secrets) -> None:
        """Write the secrets, readable by nobody else."""
        self.folder.save_secrets(values)

    # -- what lives as long as the deployment ----------------------------------------------------

    def check_input(self) -> None:
        """Refuse what can be seen to fail without touching the disks.

        Raises:
            InputError: With what to do about it.
        """
        self.driver.check()
        tls.given_certificate(self.settings, self._hostname())

    def check(self) -> None:
        """Refuse what cannot work for want of tools, of space or of the data disk.

        Raises:
            InputError: With what to do about it.
        """
        self.driver.check()
        pool.check_space(self.settings.state_dir.absolute(), needed=4 << 30)
        served = self.deployment.data_disk_served
        if served and not self.data_disk.exists():
            raise InputError(
                f"{self.data_disk} is gone: it held the runs of {self.deployment.name}",
                hint="put it back, or begin with an empty one and restore a backup:"
                " ./inv deploy --new-data-disk, then ./inv restore newest",
            )
        self.data.check_owner(self.deployment.data_disk_uuid)
        if "data_disk_gib" in self.settings.model_fields_set:
            self.data.check_growth(self.settings.data_disk_gib)

    def settle(self) -> None:
        """Fix the deployment's name, addresses and secrets; those given win over those kept."""
        deployment, settings = self.deployment, self.settings
        deployment.hostname = self._hostname()
        deployment.username = settings.username
        deployment.storage_account = settings.storage_account
        deployment.storage_container = settings.storage_container
        deployment.own_certificate = settings.certificate is not None
        self.save_secrets(credentials.settled(settings, self.folder.load_secrets()))
        ssh.make_key(self.folder.ssh_key)
        self.save()

    def foundations(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Give the steps that make network, artifact store and data disk."""
        yield "Network", self.bring_up_network
        yield "Artifact store (Azurite)", self._start_storage
        yield "Data disk", lambda: self.data.make(self.settings.data_disk_gib)

    def make_storage(self) -> None:
        """Make the artifact store alone, and the network that it listens on."""
        self.bring_up_network()
        self._start_storage()

    def renew_storage_key(self, given: SecretStr | None = None) -> None:
        """Let another storage key count; Azurite takes both until the old one is retired."""
        self.save_secrets(credentials.with_storage_key(self.secrets, given))
        self._start_storage()

    def retire_storage_key(self) -> None:
        """End the storage key that counted before."""
        self.save_secrets(self.secrets.model_copy(update={"previous_storage_key": None}))
        self._start_storage()

    def grow_data_disk(self, gib: int) -> None:
        """Make the data disk larger, also under a machine.

        Raises:
            InputError: It would become smaller.
        """
        self.data.grow(gib)

    def give_up_data_disk(self) -> None:
        """Make ready for an empty data disk in the place of one that is gone.

        Raises:
            InputError: It is still there.
        """
        if self.data_disk.exists():
            raise InputError(
                f"{self.data_disk} is there: it holds the runs of {self.deployment.name}",
                hint="--new-data-disk is for one that is gone; move it away if you mean it",
            )
        self.deployment.data_disk_served = False
        self.deployment.data_disk_uuid = str(uuid.uuid4())
        self.deployment.previous = None  # it knows the disk that is gone
        # The machine that runs has it too: even after a kill right here it is replaced.
        self.deployment.environment_digest = ""
        self.save()

    # -- its parts -------------------------------------------------------------------------------

    @property
    def data_disk(self) -> Path:
        """The data disk's file."""
        return self.disks / "data" / f"{self.deployment.name}.raw"

    @property
    def data(self) -> DataDisk:
        """The data disk with its copies."""
        return DataDisk(self.data_disk)

    @property
    def network(self) -> network.Network:
        """The deployment's network."""
        if self.deployment.network is None:
            raise BakeryError("the deployment has no network yet", hint="./inv deploy")
        return self.deployment.network

    @property
    def blob(self) -> BlobAccess:
        """The artifact store as this host reaches it."""
        return BlobAccess(
            account=self.deployment.storage_account,
            container=self.deployment.storage_container,
            key=self.secrets.storage_key,
            endpoint=self._azurite.endpoint,
        )

    def certificate(self) -> tls.Certificate:
        """Return the user's own certificate, or one of the deployment's CA."""
        hostname = self.deployment.hostname
        return tls.given_certificate(self.settings, hostname) or tls.local_certificate(
            self.folder.tls, hostname, self.network.service
        )

    def removals(self, *, with_data: bool) -> Iterator[tuple[str, Callable[[], object]]]:
        """Give what removes each part, with its name; machines are gone by then."""
        deployment = self.deployment
        if deployment.network and self.folder.load_secrets():
            yield "Azurite", self._azurite.stop
        # By its name: a kill may have left one that is not remembered yet.
        yield "network", lambda: network.take_down(f"bk{deployment.id}")
        yield "hosts line", lambda: hosts.release(deployment.id)
        if with_data:
            yield "data disk", self.data.remove
            yield "state", lambda: shutil.rmtree(self.folder.path)
        else:
            yield "state", self._forget_machines

    def _forget_machines(self) -> None:
        deployment = self.deployment
        deployment.ended("destroyed")
        deployment.generation = deployment.previous = deployment.pending = None
        deployment.network = None
        self.data.forget_snapshots(but=set())
        if self.folder.facts.exists():
            self.save()

    def _hostname(self) -> str:
        return (
            self.settings.hostname
            or self.deployment.hostname
            or f"{self.deployment.name}.bakery.internal"
        )

    def bring_up_network(self) -> None:
        """Make the bridge and its subnet exist and the name resolve."""
        if self.deployment.network is None:
            self.deployment.network = network.allot(f"bk{self.deployment.id}")
            self.save()
        network.bring_up(self.network)
        hosts.claim(self.deployment.hostname, self.network.service, self.deployment.id)

    def _start_storage(self) -> None:
        """Run Azurite with the container in it."""
        executable = azurite.install(self.settings.state_dir.absolute() / "cache")
        self._azurite.start(executable)
        self._azurite.make_container(self.deployment.storage_container)

    def azurite_runs(self) -> bool:
        """Return whether the artifact store runs."""
        known = self.deployment.network is not None and self.folder.load_secrets() is not None
        return known and self._azurite.running()

    @property
    def _azurite(self) -> azurite.Azurite:
        other = self.secrets.previous_storage_key
        return azurite.Azurite(
            folder=self.folder.azurite,
            address=self.network.gateway,
            account=self.deployment.storage_account,
            key=self.secrets.storage_key.get_secret_value(),
            other_key=other.get_secret_value() if other else "",
        )
