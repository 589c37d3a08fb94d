"""The local target: the baked image booted on this host, with Azurite for Blob."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bakery import azurite, environment, hosts, machine, network, pool, ssh, tls
from bakery.drivers.base import MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.manifest import Catalogue, Manifest
from bakery.render import render
from bakery.settings import Settings, generate_password
from bakery.state import Deployment, DeploymentFolder, Generation, Secrets
from bakery.targets.base import BlobAccess, Server, SshAccess

_ADMIN = "bakery"
_STOP_SECONDS = 90


class LocalTarget:
    """One deployment on this host; every method can be repeated and converges."""

    def __init__(self, settings: Settings, disks: Path, folder: DeploymentFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.disks = disks
        self.catalogue = Catalogue(settings.state_dir.absolute(), disks)
        self.driver = Nspawn()
        self.deployment = folder.load() or Deployment(name=settings.name)

    @classmethod
    def seen(cls, settings: Settings) -> "LocalTarget":
        """Return the deployment as it is remembered: to look at, its disks not mounted."""
        folder = DeploymentFolder(settings.state_dir, settings.name)
        return cls(settings, settings.state_dir.absolute() / "pool", folder)

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings, *, new: bool = False) -> Iterator["LocalTarget"]:
        """Give the deployment that the settings name, its disks mounted, nobody else at it.

        Raises:
            InputError: It can never work, or (unless `new`) there is none; nothing was made.
        """
        folder = DeploymentFolder(settings.state_dir, settings.name)
        if new:
            cls.seen(settings).check_input()
        else:
            folder.deployed()
        with folder.locked(), pool.opened(settings.state_dir.absolute()) as disks:
            yield cls(settings, disks, folder)

    # -- what lives as long as the deployment ----------------------------------------------------

    def check_input(self) -> None:
        """Refuse what can be seen to fail without touching the disks.

        Raises:
            InputError: With what to do about it.
        """
        self.driver.check()
        if self.settings.certificate and self.settings.certificate_key:
            tls.given_certificate(
                self.settings.certificate, self.settings.certificate_key, self._hostname()
            )

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

    def settle(self) -> None:
        """Fix the deployment's name, addresses and secrets; those given win over those kept."""
        deployment, settings = self.deployment, self.settings
        deployment.hostname = self._hostname()
        deployment.username = settings.username
        deployment.storage_account = settings.storage_account
        deployment.storage_container = settings.storage_container
        deployment.own_certificate = settings.certificate is not None
        self.folder.save_secrets(self._settled_secrets())
        ssh.make_key(self.folder.ssh_key)
        self.folder.save(deployment)

    def bring_up_network(self) -> None:
        """Make the bridge and its subnet exist and the name resolve."""
        if self.deployment.network is None:
            self.deployment.network = network.allot(f"bk{self.deployment.id}")
            self.folder.save(self.deployment)
        network.bring_up(self.network)
        hosts.claim(self.deployment.hostname, self.network.service, self.deployment.id)

    def start_storage(self) -> None:
        """Run Azurite with the container in it."""
        executable = azurite.install(self.settings.state_dir.absolute() / "cache")
        self._azurite.start(executable)
        self._azurite.make_container(self.deployment.storage_container)

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
        # The machine that runs has the old disk: even after a kill right here it is replaced.
        self.deployment.environment_digest = ""
        self.folder.save(self.deployment)

    def make_data_disk(self) -> None:
        """Make an empty data disk unless there is one; the machine formats it, once."""
        if self.data_disk.exists():
            return
        self.data_disk.parent.mkdir(parents=True, exist_ok=True)
        part = self.data_disk.with_suffix(".part")
        with part.open("wb") as file:
            file.truncate(self.settings.data_disk_gib << 30)
        part.rename(self.data_disk)

    # -- generations -----------------------------------------------------------------------------

    def environment(self) -> dict[str, Any]:
        """Return the environment that a machine of this deployment gets."""
        return environment.environment(
            self.deployment,
            self._secrets,
            mysql_user=self.settings.mysql_user,
            blob=self.blob,
            blob_endpoint=self.blob.endpoint,
            certificate=self._certificate(),
        )

    def create_machine(self, image: Manifest) -> Generation:
        """Make the next generation's disk and seed, not yet the one that counts."""
        current = self.deployment.generation
        generation = Generation(number=current.number + 1 if current else 1, image=image.id)
        spec = self.spec(generation)
        shutil.rmtree(spec.folder, ignore_errors=True)
        pool.copy(self.catalogue.disk(image.id), spec.disk)
        spec.disk.chmod(0o600)
        self.deployment.environment_serial += 1
        self.folder.save(self.deployment)
        values = self.environment()
        public = ssh.make_key(self.folder.ssh_key)
        meta = render(
            "cloud-init/meta-data.yaml.j2",
            instance=f"{self.deployment.id}-{generation.number}-{generation.created:%s}",
            hostname=self.deployment.name,
            public_key=public,
        )
        addresses = [self.network.management(generation.number), self.network.service]
        machine.write_seed(
            spec,
            environment.user_data(values, self.deployment.environment_serial),
            meta,
            machine.network_config(self.network, addresses),
        )
        return generation

    def boot(self, generation: Generation) -> None:
        """Start a generation's machine and wait for SSH."""
        machine.boot(
            self.driver,
            self.spec(generation),
            self.ssh(generation),
            seconds=self.settings.boot_seconds,
        )

    def stop(self, generation: Generation) -> None:
        """Shut a generation's machine down in order."""
        self.driver.stop(self.spec(generation), seconds=_STOP_SECONDS)

    def running(self) -> bool:
        """Return whether the machine that counts runs."""
        current = self.deployment.generation
        return current is not None and self.driver.running(self.spec(current))

    def commit(self, generation: Generation) -> None:
        """Make a generation the one that counts; the one before is removed."""
        before = self.deployment.generation
        self.deployment.generation = generation
        self.deployment.data_disk_served = True
        self.deployment.environment_digest = environment.digest(self.environment())
        self.folder.save(self.deployment)
        if before and before.number != generation.number:
            self.remove(before)

    def remove(self, generation: Generation) -> None:
        """Remove a generation's machine with its disk."""
        spec = self.spec(generation)
        self.driver.stop(spec, seconds=_STOP_SECONDS)
        spec.disk.unlink(missing_ok=True)
        shutil.rmtree(spec.folder, ignore_errors=True)

    def up_to_date(self, image: Manifest) -> bool:
        """Return whether the machine that counts is of this image and these settings."""
        current = self.deployment.generation
        return (
            current is not None
            and current.image == image.id
            and self.spec(current).disk.exists()
            and self.deployment.environment_digest == environment.digest(self.environment())
        )

    # -- the end ---------------------------------------------------------------------------------

    def destroy(self, *, with_data: bool) -> list[str]:
        """Remove machines and network, and with them what they changed on this host.

        Data disk, blobs, certificates and secrets stay unless `with_data`. Returns what could not
        be removed; one failure does not stop the rest.
        """
        failures: list[str] = []
        for name, remove in self._removals(with_data=with_data):
            try:
                remove()
            except (BakeryError, OSError) as error:
                failures.append(f"{name}: {error}")
        return failures

    # -- what others need to know ----------------------------------------------------------------

    @property
    def data_disk(self) -> Path:
        """The data disk's file."""
        return self.disks / "data" / f"{self.deployment.name}.raw"

    @property
    def network(self) -> network.Network:
        """The deployment's network."""
        if self.deployment.network is None:
            raise BakeryError("the deployment has no network yet", hint="./inv deploy")
        return self.deployment.network

    def spec(self, generation: Generation) -> MachineSpec:
        """Return what the driver needs for a generation."""
        deployment = self.deployment
        return MachineSpec(
            name=f"bk{deployment.id}-{generation.number % 1000}",
            disk=self.disks / "machines" / f"{deployment.name}-{generation.number}.raw",
            folder=self.folder.machine(generation.number),
            bridge=self.network.name,
            data_disk=self.data_disk,
        )

    def ssh(self, generation: Generation) -> SshAccess:
        """Return how to log in to a generation's machine."""
        return SshAccess(
            host=self.network.management(generation.number),
            user=_ADMIN,
            key=self.folder.ssh_key,
            known_hosts=self.folder.known_hosts,
        )

    def server(self, generation: Generation | None = None) -> Server:
        """Return the server as its clients see it."""
        generation = generation or self.deployment.generation
        if generation is None:
            raise InputError(f"{self.deployment.name} is not deployed", hint="./inv up")
        return Server(
            name=self.deployment.name,
            hostname=self.deployment.hostname,
            address=self.network.service,
            username=self.deployment.username,
            password=self._secrets.password,
            ca_file=None if self.deployment.own_certificate else tls.ca_file(self.folder.tls),
            ssh=self.ssh(generation),
            blob=self.blob,
            data_disk_uuid=self.deployment.data_disk_uuid,
            image_manifest=self.catalogue.manifest_file(generation.image),
        )

    def journal(self, generation: Generation) -> str:
        """Return the end of what the machine's server said, for an error; empty without SSH."""
        words = ["sudo", "journalctl", "--no-pager", "--lines=20", "--output=cat"]
        words += ["--unit=mlflow.service", "--unit=mlflow-data-disk.service"]
        return ssh.command(self.ssh(generation), words, timeout=15).stdout.strip()

    # -- inside ----------------------------------------------------------------------------------

    def _hostname(self) -> str:
        return (
            self.settings.hostname
            or self.deployment.hostname
            or f"{self.deployment.name}.bakery.internal"
        )

    def _settled_secrets(self) -> Secrets:
        settings, kept = self.settings, self.folder.load_secrets()
        password = settings.password or (kept.password if kept else SecretStr(generate_password()))
        key = settings.storage_access_key or (
            kept.storage_key if kept else SecretStr(azurite.generate_key())
        )
        same = kept and kept.password.get_secret_value() == password.get_secret_value()
        return Secrets(
            password=password,
            password_hash=kept.password_hash
            if kept and same
            else environment.hash_password(password.get_secret_value()),
            storage_key=key,
            mysql_password=settings.mysql_password or (kept.mysql_password if kept else None),
        )

    @property
    def _secrets(self) -> Secrets:
        found = self.folder.load_secrets()
        if found is None:
            raise BakeryError(f"{self.folder.secrets} is gone", hint="./inv deploy makes new ones")
        return found

    @property
    def _azurite(self) -> azurite.Azurite:
        return azurite.Azurite(
            folder=self.folder.azurite,
            address=self.network.gateway,
            account=self.deployment.storage_account,
            key=self._secrets.storage_key.get_secret_value(),
        )

    @property
    def blob(self) -> BlobAccess:
        """The artifact store as this host reaches it."""
        return BlobAccess(
            account=self.deployment.storage_account,
            container=self.deployment.storage_container,
            key=self._secrets.storage_key,
            endpoint=self._azurite.endpoint,
        )

    def _certificate(self) -> tls.Certificate:
        chain, key = self.settings.certificate, self.settings.certificate_key
        if chain and key:
            return tls.given_certificate(chain, key, self.deployment.hostname)
        return tls.local_certificate(
            self.folder.tls, self.deployment.hostname, self.network.service
        )

    def _removals(self, *, with_data: bool) -> Iterator[tuple[str, Any]]:
        deployment = self.deployment
        if deployment.network:
            for found in sorted(self.folder.path.glob("machines/*")):
                generation = Generation(number=int(found.name), image="")
                yield f"machine {found.name}", lambda one=generation: self.remove(one)
            if self.folder.load_secrets():
                yield "Azurite", self._azurite.stop
        # By its name: a kill may have left one that is not remembered yet.
        yield "network", lambda: network.take_down(f"bk{deployment.id}")
        yield "hosts line", lambda: hosts.release(deployment.id)
        if with_data:
            yield "data disk", lambda: self.data_disk.unlink(missing_ok=True)
            yield "state", lambda: shutil.rmtree(self.folder.path)
        else:
            yield "state", self._forget_machines

    def _forget_machines(self) -> None:
        self.deployment.generation = None
        self.deployment.network = None
        if self.folder.facts.exists():
            self.folder.save(self.deployment)
