"""A fake Azure with a baked image in it, and the product's own pages run against it.

Runs that are to be killed happen in a forked process: all is imported there already, and the
fake, which is asked over HTTPS like any Azure, goes on here.
"""

import faulthandler
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from bakery import settings
from bakery.checks.door import READY, Login, ask, front
from bakery.deploy import deploy
from bakery.errors import BakeryError
from bakery.settings import Settings
from bakery.targets.azure_target import AzureTarget
from tests.azure.azurite import AzuriteStores
from tests.azure.fake import Fake, Options
from tests.azure.modes import environment, light, publish
from tests.azure.standin import StandIns
from tests.azure.standin_server import add_experiment, experiments
from tests.unit.samples import manifest

LOGIN = "oauth2|openid|discovery"
_DEADLINE = 90
_PAUSE = 0.05


@dataclass
class Stage:
    """One Azure, and who deploys there."""

    fake: Fake
    machines: StandIns
    folder: Path
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return settings.load(**self.given)

    def told(self, **more: Any) -> "Stage":
        """Return the same Azure, with other settings."""
        return Stage(self.fake, self.machines, self.folder, {**self.given, **more})

    def colleague(self, name: str = "colleague") -> "Stage":
        """Return the same Azure, seen from an empty state folder."""
        return self.told(state_dir=str(self.folder / name))

    def bake(self, image: str, *, gpu: bool = False) -> str:
        """Put a good image into the gallery, as a bake leaves it."""
        schema = {"revision": "r1", "ancestors": []}
        publish(self.fake, manifest(image, key=image[-8:]), schema, gpu=gpu)
        return image

    # -- running the product -----------------------------------------------------------------------

    def deploy(self, **how: Any) -> None:
        deploy(self.settings, **how)

    def calls(self, action: Callable[[], object]) -> list[str]:
        """Return the calls that an action makes, each as METHOD path; those to log in not."""
        first = len(self.fake.journal.entries)
        action()
        made = self.fake.journal.entries[first:]
        rows = [f"{one.method} {one.path}" for one in made]
        return [row for row in rows if not any(word in row for word in LOGIN.split("|"))]

    # -- what is there -----------------------------------------------------------------------------

    def seen(self) -> AzureTarget:
        target = AzureTarget(self.settings, look_only=True)
        target.recall()
        return target

    def named(self, kind: str) -> list[str]:
        """Return the names of all resources of a kind, such as Microsoft.Compute/disks."""
        return sorted(one["name"] for one in self.fake.world.of_type(kind))

    def data(self) -> Path:
        """Return where a stand-in keeps what is on the data disk."""
        target = self.seen()
        return self.machines._disk(target.disks.id_of(target.data_disk))

    def log_run(self, name: str) -> None:
        """Write something that no replacement may lose."""
        add_experiment(self.data(), name)

    def runs(self) -> list[str]:
        return experiments(self.data())

    def answers(self) -> int:
        """Return what a client gets who asks for what is in the database; 0: no answer."""
        server = self.seen().server()
        door = front(server.as_client)
        try:
            return ask(door, READY, login=Login(server.username, server.password)).status_code
        except requests.ConnectionError:
            return 0

    def check_tidy(self) -> None:
        """See that one machine serves, one at most is kept, and there is nothing else."""
        target = self.seen()
        deployment, names = target.deployment, target.azure.names
        assert deployment.pending is None
        assert deployment.generation is not None
        kept = {deployment.previous.number} if deployment.previous else set()
        # The one before may be one that somebody else has deleted.
        kept &= set(target.machines.numbers())
        numbers = sorted({deployment.generation.number, *kept})
        serving = deployment.generation.number
        assert self.named("Microsoft.Compute/virtualMachines") == sorted(
            names.machine(one) for one in numbers
        )
        assert self.named("Microsoft.Network/networkInterfaces") == sorted(
            names.interface(one) for one in numbers
        )
        assert self.named("Microsoft.Compute/snapshots") == []
        own = {names.os_disk(one) for one in numbers}
        disks = set(self.named("Microsoft.Compute/disks")) - own
        assert target.data_disk in disks
        # Beside it at most what a snapshot that was put back has replaced.
        assert len(disks) <= 1 + target.data_disk.startswith(f"{names.data_disk}-")
        assert self.named("Microsoft.Storage/storageAccounts") == [target.account.name]
        assert self.named("Microsoft.Network/publicIPAddresses") == [names.address]
        assert self.named("Microsoft.Network/networkSecurityGroups") == [names.security_group]
        assert self.named("Microsoft.Network/virtualNetworks") == [names.network]
        assert target.disks.holder(target.data_disk) == names.machine(serving)
        assert target.net.holder() == names.interface(serving)
        commands = self.fake.world.of_type("Microsoft.Compute/virtualMachines/runCommands")
        assert [one["name"] for one in commands] == []
        assert target.store.tokens() == {}
        assert target.drift() == []
        assert self.answers() == 200


def forked(action: Callable[[], object], log: Path) -> int:
    """Run an action in a process of its own; return its exit code, or minus the signal's number."""
    # What OpenSSL has locked for a connection that just ends would stay so in the child.
    time.sleep(_PAUSE)
    child = os.fork()
    if child == 0:
        _let_go_of_what_is_open()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        # One that hangs says where.
        faulthandler.dump_traceback_later(_DEADLINE - 5, file=2)
        try:
            action()
        except BaseException:  # noqa: BLE001 (whatever it is, the child ends here)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # It may well be the fake that does not answer.
    with log.open("a") as file:
        faulthandler.dump_traceback(file)
    raise AssertionError(f"the run did not end: {log.read_text()}")


def in_its_own_process(stage: Stage, action: Callable[[], object]) -> None:
    """Run an action in a process that ends, and with it what it holds; raise what it raised."""
    said = stage.folder / "said"
    said.unlink(missing_ok=True)

    def told() -> None:
        try:
            action()
        except BakeryError as error:
            said.write_text(json.dumps([str(error), error.hint]), encoding="utf-8")
            raise

    log = stage.folder / "child.log"
    code = forked(told, log)
    if said.exists():
        text, hint = json.loads(said.read_text(encoding="utf-8"))
        raise BakeryError(text, hint=hint)
    assert code == 0, log.read_text(encoding="utf-8")


def _let_go_of_what_is_open() -> None:
    """Leave the parent's sockets and pipes to it.

    What listens here, too, keeps an address in use; and whoever reads a pipe to its end waits for
    us, too.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if int(entry.name) > 2 and str(entry.readlink()).startswith(("socket:", "pipe:")):
                os.dup2(nothing, int(entry.name))


@contextmanager
def staged(folder: Path, stores: AzuriteStores, cache: Path, **options: Any) -> Iterator[Stage]:
    """Give a stage; the caller's environment says who is signed in."""
    fresh = options.pop("fresh", False)
    chosen = Options(nic_reserved_seconds=0.2, **options)
    with light(folder, cache=cache, stores=stores, options=chosen, registered=not fresh) as fake:
        machines = fake.machines
        assert isinstance(machines, StandIns)
        os.environ["AZURE_TENANT_ID"] = fake.tenant
        names = {
            name.removeprefix("BAKERY_").lower(): value
            for name, value in environment(fake).items()
            if name.startswith("BAKERY_")
        }
        more = {"ready_seconds": 15, "boot_seconds": 30, "state_dir": str(folder / "state")}
        yield Stage(fake, machines, folder, {**names, **more})
    bugs = folder / "fake.log"
    if bugs.exists():
        print("the fake itself failed:", bugs.read_text(encoding="utf-8"), sep="\n")
    shutil.rmtree(folder, ignore_errors=True)
