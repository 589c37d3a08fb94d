"""The local target: the baked image booted on this host, with Azurite for Blob."""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bakery import azurite, credentials, environment, hosts, machine, network, pool, ssh, tls
from bakery.data_disk import DataDisk, read_file
from bakery.disk import root_partition
from bakery.drivers.base import MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.manifest import Catalogue, Manifest
from bakery.render import render
from bakery.settings import Settings
from bakery.state import Deployment, DeploymentFolder, Generation, Secrets
from bakery.targets.base import BlobAccess, Server, SshAccess
from bakery.targets.local_training import LocalTraining

_ADMIN = "bakery"
_STOP_SECONDS = 90
_SCHEMA = "/usr/share/mlflow-bakery/schema.json"


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
        self.folder.save_secrets(credentials.settled(settings, self.folder.load_secrets()))
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
        self.deployment.previous = None  # it knows the disk that is gone
        # The machine that runs has it too: even after a kill right here it is replaced.
        self.deployment.environment_digest = ""
        self.folder.save(self.deployment)

    # -- generations -----------------------------------------------------------------------------

    def environment(self) -> dict[str, Any]:
        """Return the environment that a machine of this deployment gets."""
        return environment.environment(
            self.deployment,
            self.secrets,
            mysql_user=self.settings.mysql_user,
            blob=self.blob,
            blob_endpoint=self.blob.endpoint,
            certificate=self._certificate(),
        )

    def next_generation(self, image: Manifest) -> Generation:
        """Return the generation that an image would be; no number is ever used twice."""
        deployment = self.deployment
        current = deployment.generation.number if deployment.generation else 0
        versions = {one.name: one.version for one in image.containers}
        return Generation(
            number=max(deployment.last_number, current) + 1,
            image=image.id,
            mlflow=versions.get("mlflow", ""),
            mysql=versions.get("mysql", ""),
            revision=self.schema(image)["revision"],
        )

    def schema(self, image: Manifest) -> dict[str, Any]:
        """Return what an image's MLflow reads: the schema's revision, and all before it."""
        disk = self.catalogue.disk(image.id)
        text = read_file(disk, _SCHEMA, root_partition(disk).offset)
        return {"revision": "", "ancestors": [], **(json.loads(text) if text else {})}

    def create_machine(self, generation: Generation) -> str:
        """Make a generation's disk and seed; return the digest of the environment in it."""
        spec = self.spec(generation)
        shutil.rmtree(spec.folder, ignore_errors=True)
        pool.copy(self.catalogue.disk(generation.image), spec.disk)
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
        return environment.digest(values)

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

    def running(self, generation: Generation | None = None) -> bool:
        """Return whether a generation's machine runs; without one, the machine that counts."""
        generation = generation or self.deployment.generation
        return generation is not None and self.driver.running(self.spec(generation))

    def tidy(self) -> None:
        """Remove every machine but those that are kept, and a snapshot that nobody needs."""
        for found in self.machines():
            if found.number not in self.deployment.kept:
                self.remove(found)
        if self.deployment.pending is None:
            self.data.forget_snapshot()

    def machines(self) -> list[Generation]:
        """Return every generation that has something on this host."""
        numbers = sorted(int(path.name) for path in self.folder.path.glob("machines/*"))
        return [Generation(number=number, image="") for number in numbers]

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
    def data(self) -> DataDisk:
        """The data disk with its copies."""
        return DataDisk(self.data_disk)

    @property
    def training(self) -> LocalTraining:
        """The training machine, whether there is one or not."""
        return LocalTraining(self)

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
            password=self.secrets.password,
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

    def console(self, generation: Generation) -> str:
        """Return what the machine wrote to its console since it was last started."""
        console = self.spec(generation).console
        return console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""

    # -- inside ----------------------------------------------------------------------------------

    def _hostname(self) -> str:
        return (
            self.settings.hostname
            or self.deployment.hostname
            or f"{self.deployment.name}.bakery.internal"
        )

    @property
    def secrets(self) -> Secrets:
        """What clients and machines log in with."""
        found = self.folder.load_secrets()
        if found is None:
            raise BakeryError(f"{self.folder.secrets} is gone", hint="./inv deploy makes new ones")
        return found

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

    @property
    def blob(self) -> BlobAccess:
        """The artifact store as this host reaches it."""
        return BlobAccess(
            account=self.deployment.storage_account,
            container=self.deployment.storage_container,
            key=self.secrets.storage_key,
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
            for found in self.machines():
                yield f"machine {found.number}", lambda one=found: self.remove(one)
            yield "training machine", self.training.remove
            if self.folder.load_secrets():
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
        if self.folder.facts.exists():
            self.folder.save(self.deployment)
