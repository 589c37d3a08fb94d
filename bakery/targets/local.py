"""The local target: the baked image booted on this host, with Azurite for Blob."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bakery import duty, environment, machine, network, pool, ssh, tls
from bakery.data_disk import read_file
from bakery.disk import root_partition
from bakery.drivers.base import MachineSpec
from bakery.errors import BakeryError, InputError
from bakery.log import warn
from bakery.manifest import Catalogue, Manifest
from bakery.plan import Change
from bakery.render import render
from bakery.settings import Settings
from bakery.state import DeploymentFolder, Generation
from bakery.targets import local_plan
from bakery.targets.base import Answer, Server, SshAccess
from bakery.targets.local_ground import LocalGround
from bakery.targets.local_training import LocalTraining

_ADMIN = "bakery"
_STOP_SECONDS = 90
_QUIESCE_SECONDS = 120
_SCHEMA = "/usr/share/mlflow-bakery/schema.json"


def check_input(settings: Settings) -> None:
    """Refuse what can be seen to fail without touching the disks.

    Raises:
        InputError: With what to do about it.
    """
    _remembered(settings).check_input()


def check_image(settings: Settings, image: str | None) -> None:
    """Refuse an image, or the newest one, of which there is no record.

    Raises:
        InputError: There is no such image.
    """
    state = settings.state_dir.absolute()
    Catalogue(state, state / "pool").recorded(image)


def exists(settings: Settings) -> bool:
    """Return whether there is anything of a deployment."""
    return DeploymentFolder(settings.state_dir, settings.name).load() is not None


def plan_deploy(settings: Settings, *, image: str | None, replace: bool) -> list[Change]:
    """Return what `deploy` would do; nothing is written.

    Raises:
        InputError: It would be refused.
    """
    check_input(settings)
    target = _remembered(settings)
    state = settings.state_dir.absolute()
    chosen = Catalogue(state, state / "pool").recorded(image)
    return local_plan.deploy_plan(target, chosen, replace=replace)


def plan_destroy(settings: Settings, *, with_data: bool) -> list[Change]:
    """Return what `destroy` would do; nothing is written."""
    return local_plan.destroy_plan(_remembered(settings), with_data=with_data)


def seen(settings: Settings) -> "LocalTarget":
    """Return the deployment as it is remembered: to look at, its disks not mounted.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    DeploymentFolder(settings.state_dir, settings.name).deployed()
    return _remembered(settings)


@contextmanager
def opened(settings: Settings, *, new: bool = False) -> Iterator["LocalTarget"]:
    """Give the deployment that the settings name, its disks mounted, nobody else at it.

    Raises:
        InputError: It can never work, or (unless `new`) there is none; nothing was made.
        BakeryError: Another run is at it; says whose.
    """
    folder = DeploymentFolder(settings.state_dir, settings.name)
    if new:
        _remembered(settings).check_input()
    else:
        folder.deployed()
    with folder.locked(), pool.opened(settings.state_dir.absolute()) as disks:
        yield LocalTarget(settings, disks, folder)


def _remembered(settings: Settings) -> "LocalTarget":
    folder = DeploymentFolder(settings.state_dir, settings.name)
    return LocalTarget(settings, settings.state_dir.absolute() / "pool", folder)


class LocalTarget(LocalGround):
    """One deployment on this host; every method can be repeated and converges."""

    def __init__(self, settings: Settings, disks: Path, folder: DeploymentFolder) -> None:
        super().__init__(settings, disks, folder)
        self.catalogue = Catalogue(settings.state_dir.absolute(), disks)

    # -- images ----------------------------------------------------------------------------------

    def choose_image(self, image: str | None) -> Manifest:
        """Return an image by its id, or the newest.

        Raises:
            InputError: There is no such image.
        """
        return self.catalogue.choose(image)

    def schema(self, image: Manifest) -> dict[str, Any]:
        """Return what an image's MLflow reads: the schema's revision, and all before it."""
        disk = self.catalogue.disk(image.id)
        text = read_file(disk, _SCHEMA, root_partition(disk).offset)
        return {"revision": "", "ancestors": [], **(json.loads(text) if text else {})}

    # -- generations: the steps of a replacement, in their order ---------------------------------

    def environment(self) -> dict[str, Any]:
        """Return the environment that a machine of this deployment gets."""
        return environment.environment(
            self.deployment,
            self.secrets,
            mysql_user=self.settings.mysql_user,
            blob=self.blob,
            blob_endpoint=self.blob.endpoint,
            certificate=self.certificate(),
        )

    def create(self, generation: Generation) -> str:
        """Boot a machine to standby; make it first, unless it is one that is kept."""
        current, previous = self.deployment.generation, self.deployment.previous
        kept = {one.number for one in (current, previous) if one}
        told = "" if generation.number in kept else self._make(generation)
        machine.boot(
            self.driver,
            self.spec(generation),
            self._access(generation),
            seconds=self.settings.boot_seconds,
        )
        if not told and (current is None or generation.number != current.number):
            # It remembers whom it let in; one that was fenced could not be told.
            duty.ask(self, generation, "close")
        return told

    def quiesce(self, generation: Generation) -> dict[str, int]:
        """Stop the server in order and unmount the data disk, or kill the machine."""
        if not self.running(generation):
            return {}
        try:
            return dict(duty.ask(self, generation, "quiesce", timeout=_QUIESCE_SECONDS))
        except BakeryError as error:
            warn(f"generation {generation.number} does not stop serving, it is killed: {error}")
        self.driver.stop(self.spec(generation), seconds=0)
        if self.running(generation):
            raise BakeryError(
                f"generation {generation.number} can neither be stopped nor killed",
                hint="its data disk is not touched; look for its processes, then again",
            )
        return {}

    def detach(self, generation: Generation) -> None:
        """Take the data disk from a machine that has unmounted it."""
        self.driver.detach(self.spec(generation))

    def snapshot(self, generation: Generation) -> None:
        """Copy the data disk as it is before a generation gets it."""
        self.data.take_snapshot(generation.number)

    def attach(self, generation: Generation) -> None:
        """Give the data disk to a running machine."""
        self.driver.attach(self.spec(generation), self.data_disk)

    def move_address(self, generation: Generation) -> None:
        """Lead the service address to this machine."""
        network.lead(self.network, generation.number)

    def activate(self, generation: Generation) -> None:
        """Let the machine mount its data disk and start the server."""
        duty.ask(self, generation, "activate")

    def admit(self, generation: Generation) -> None:
        """Let every client in."""
        duty.ask(self, generation, "admit")

    def retire(self, generation: Generation) -> None:
        """Shut a machine down in order, or by force when that takes too long; it is kept."""
        self.driver.stop(self.spec(generation), seconds=_STOP_SECONDS)

    def remove(self, generation: Generation) -> None:
        """Remove a machine with its disk."""
        spec = self.spec(generation)
        self.retire(generation)
        spec.disk.unlink(missing_ok=True)
        shutil.rmtree(spec.folder, ignore_errors=True)

    def changed_data(self, generation: Generation) -> bool:
        """Return whether a migration began since a generation's snapshot."""
        return self.data.changed(generation.number)

    def restore_snapshot(self, generation: Generation) -> None:
        """Put a generation's snapshot in the data disk's place."""
        self.data.restore(generation.number)
        warn(
            f"the data disk is as it was before generation {generation.number};"
            f" what became of it is kept as {self.data.undone}"
        )

    def snapshots(self) -> set[int]:
        """Return the numbers of the generations of which there is a snapshot."""
        return self.data.snapshots()

    def forget_snapshots(self, *, but: set[int]) -> None:
        """Remove all snapshots but those of these generations."""
        self.data.forget_snapshots(but=but)

    def running(self, generation: Generation) -> bool:
        """Return whether a generation's machine runs."""
        return self.driver.running(self.spec(generation))

    def fault(self, generation: Generation) -> str:
        """Return why a machine never will serve: it has ended, or its server's start has failed."""
        return duty.fault(self, generation) if self.running(generation) else "its machine has ended"

    def generations(self) -> list[Generation]:
        """Return every generation that has something on this host."""
        numbers = sorted(int(path.name) for path in self.folder.path.glob("machines/*"))
        return [Generation(number=number, image="") for number in numbers]

    # -- inside a machine ------------------------------------------------------------------------

    def execute(
        self,
        generation: Generation,
        words: list[str],
        *,
        stdin: str | None = None,
        timeout: float = 180,
    ) -> Answer:
        """Run a command in a machine as root, over SSH."""
        done = ssh.command(self._access(generation), ["sudo", *words], stdin=stdin, timeout=timeout)
        return Answer(done.returncode, done.stdout, done.stderr)

    def console(self, generation: Generation) -> str:
        """Return what the machine wrote to its console since it was last started."""
        console = self.spec(generation).console
        return console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""

    def manifest_file(self, generation: Generation) -> Path:
        """Return where the manifest of a generation's image lies."""
        return self.catalogue.manifest_file(generation.image)

    @property
    def training(self) -> LocalTraining:
        """The training machine, whether there is one or not."""
        return LocalTraining(self)

    def drift(self) -> list[str]:
        """Return nothing: what is on this host is looked after at each start."""
        return []

    def whole(self, generation: Generation) -> bool:
        """Return that it is: nobody else can take its disk."""
        del generation
        return True

    def server(self, generation: Generation | None = None) -> Server:
        """Return the server as its clients see it.

        Raises:
            InputError: Nothing is deployed.
        """
        generation = generation or self.deployment.generation
        if generation is None:
            raise InputError(f"{self.deployment.name} is not deployed", hint="./inv up")
        own = self.deployment.own_certificate
        return Server(
            name=self.deployment.name,
            hostname=self.deployment.hostname,
            address=self.network.service,
            username=self.deployment.username,
            password=self.secrets.password,
            ca_file=self.settings.certificate_root if own else tls.ca_file(self.folder.tls),
            ssh=self._access(generation),
            blob=self.blob,
            data_disk_uuid=self.deployment.data_disk_uuid,
            certificate=self.settings.certificate or self.folder.tls / "server.pem",
            check_token=self.secrets.check_token,
        )

    def spec(self, generation: Generation) -> MachineSpec:
        """Return what the driver needs for a generation."""
        deployment = self.deployment
        return MachineSpec(
            name=f"bk{deployment.id}-{generation.number % 1000}",
            disk=self.disks / "machines" / f"{deployment.name}-{generation.number}.raw",
            folder=self.folder.machine(generation.number),
            bridge=self.network.name,
        )

    # -- the end ---------------------------------------------------------------------------------

    def destroy(self, *, with_data: bool) -> list[str]:
        """Remove machines and network, and with them what they changed on this host.

        Data disk, blobs, certificates and secrets stay unless `with_data`. Returns what could not
        be removed; one failure does not stop the rest.
        """
        removals: list[tuple[str, Callable[[], object]]] = []
        if self.deployment.network:
            machines = self.generations()
            removals += [(f"machine {one.number}", partial(self.remove, one)) for one in machines]
            removals.append(("training machine", self.training.remove))
        failures: list[str] = []
        for name, remove in [*removals, *self.removals(with_data=with_data)]:
            try:
                remove()
            except (BakeryError, OSError) as error:
                failures.append(f"{name}: {error}")
        return failures

    # -- inside ----------------------------------------------------------------------------------

    def _make(self, generation: Generation) -> str:
        """Make a machine's disk and seed; return the digest of the environment in it."""
        spec = self.spec(generation)
        shutil.rmtree(spec.folder, ignore_errors=True)
        pool.copy(self.catalogue.disk(generation.image), spec.disk)
        spec.disk.chmod(0o600)
        self.deployment.environment_serial += 1
        self.save()
        values = self.environment()
        meta = render(
            "cloud-init/meta-data.yaml.j2",
            instance=f"{self.deployment.id}-{generation.number}-{generation.created:%s}",
            hostname=self.deployment.name,
            public_key=ssh.make_key(self.folder.ssh_key),
        )
        addresses = [self.network.management(generation.number), self.network.service]
        machine.write_seed(
            spec,
            environment.user_data(values, self.deployment.environment_serial),
            meta,
            machine.network_config(self.network, addresses),
        )
        return environment.digest(values)

    def _access(self, generation: Generation) -> SshAccess:
        return SshAccess(
            host=self.network.management(generation.number),
            user=_ADMIN,
            key=self.folder.ssh_key,
            known_hosts=self.folder.machine(generation.number) / "known_hosts",
        )
