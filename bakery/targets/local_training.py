"""The training machine on this host: the same image, in the deployment's network, no server."""

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from bakery import machine, pool, ssh
from bakery.drivers.base import MachineSpec
from bakery.errors import BakeryError
from bakery.manifest import Manifest
from bakery.plan import Change
from bakery.render import render
from bakery.state import write_atomically
from bakery.targets.base import SshAccess

if TYPE_CHECKING:
    from bakery.targets.local import LocalTarget

_USER, _WHAT = "bakery", "training machine"
_STOP_SECONDS = 90
_DOCKER_SECONDS = 60


class LocalTraining:
    """A deployment's training machine; every method can be repeated and converges."""

    def __init__(self, target: "LocalTarget") -> None:
        self._target = target
        self._folder = target.folder.path / "training"
        self._facts = self._folder / "machine.json"

    @property
    def image(self) -> str:
        """The image that it was made from; empty when there is no such machine."""
        try:
            return str(json.loads(self._facts.read_text(encoding="utf-8"))["image"])
        except FileNotFoundError:
            return ""

    @property
    def access(self) -> SshAccess:
        """How to log in, with a key that opens no other machine."""
        return SshAccess(
            host=self._target.network.training,
            user=_USER,
            key=self._folder / "ssh" / "id_ed25519",
            known_hosts=self._folder / "known_hosts",
        )

    @property
    def docker_host(self) -> str:
        """What DOCKER_HOST and `train --where` say to train on it."""
        return f"ssh://{self.access.user}@{self.access.host}"

    def check(self) -> None:
        """Do nothing: what this host needs, the target's own check says."""

    def choose_image(self, image: str | None) -> Manifest:
        """Return an image by its id, or the newest good one.

        Raises:
            InputError: There is no such image.
        """
        return self._target.choose_image(image)

    def plan(self, image: Manifest, *, replace: bool) -> list[Change]:
        """Return what a deploy of it would do; nothing is written."""
        if self.image == image.id and not replace:
            return [] if self.running() else [Change("change", _WHAT, "it is stopped")]
        why = f"it is of {self.image}; what lies on it goes with it"
        rows = [Change("delete", _WHAT, why)] if self.image else []
        return [*rows, Change("create", f"{_WHAT} of image {image.id}")]

    def removal_plan(self) -> list[Change]:
        """Return what its removal would do; nothing is written."""
        return [Change("delete", f"{_WHAT} with its disk")] if self.image else []

    def prepare(self) -> None:
        """Make the deployment's network, which the machine is in."""
        self._target.bring_up_network()

    def create(self, image: Manifest) -> None:
        """Make the machine anew, of an image; what was in the one before it is gone."""
        self.stop()
        self._facts.unlink(missing_ok=True)
        target, spec = self._target, self._spec
        shutil.rmtree(spec.folder, ignore_errors=True)
        pool.copy(target.catalogue.disk(image.id), spec.disk)
        spec.disk.chmod(0o600)
        meta = render(
            "cloud-init/meta-data.yaml.j2",
            instance=f"{target.deployment.id}-training-{time.time():.0f}",
            hostname=f"{target.deployment.name}-training",
            public_key=ssh.make_key(self.access.key),
        )
        machine.write_seed(
            spec,
            render("cloud-init/training-user-data.yaml.j2", user=_USER),
            meta,
            machine.network_config(target.network, [self.access.host]),
        )
        write_atomically(self._facts, json.dumps({"image": image.id}) + "\n")

    def start(self) -> None:
        """Boot the machine if it is not up, and wait until its Docker answers over SSH.

        Raises:
            BakeryError: It does not within its time.
        """
        self._target.bring_up_network()
        seconds = self._target.settings.boot_seconds
        machine.boot(self._target.driver, self._spec, self.access, seconds=seconds)
        if not ssh.wait(self.ready, seconds=_DOCKER_SECONDS):
            raise BakeryError(
                f"Docker on the training machine did not answer within {_DOCKER_SECONDS} s",
                hint="the end of its console is in the log",
                log=self._spec.console,
            )

    def ready(self) -> bool:
        """Return whether the machine's Docker answers over SSH."""
        # As the user of the key: cloud-init may not have let it into Docker's group yet.
        return ssh.command(self.access, ["docker", "version"], timeout=20).returncode == 0

    def stop(self) -> None:
        """Shut the machine down; nothing to do when it does not run."""
        self._target.driver.stop(self._spec, seconds=_STOP_SECONDS)

    def running(self) -> bool:
        """Return whether the machine runs."""
        return bool(self.image) and self._target.driver.running(self._spec)

    def remove(self) -> None:
        """Remove the machine with its disk and its key."""
        if self._folder.exists():
            self.stop()
            self._spec.disk.unlink(missing_ok=True)
            shutil.rmtree(self._folder)

    def status(self) -> dict[str, Any] | None:
        """Return what `status` tells of it; None when there is no such machine."""
        if not self.image:
            return None
        state = "running" if self.running() else "stopped"
        return {"state": state, "image": self.image, "docker_host": self.docker_host}

    @property
    def _spec(self) -> MachineSpec:
        deployment = self._target.deployment
        return MachineSpec(
            name=f"bk{deployment.id}-t",
            disk=self._target.disks / "machines" / f"{deployment.name}-training.raw",
            folder=self._folder / "machine",
            bridge=self._target.network.name,
        )
