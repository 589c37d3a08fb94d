"""Azure in a box: a virtual machine is a locally baked image that boots for real, under nspawn.

What a machine is given in Azure it is given here: its custom data as NoCloud user-data, its user's
key, its data disk as a device that comes and goes, a public address that leads to it as far as its
security group allows. Run Command enters the machine as root, as Azure's agent does.
"""

import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bakery import machine as seeds
from bakery import network, pool, ssh
from bakery.drivers.base import MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError
from bakery.manifest import Catalogue
from bakery.render import render
from bakery.run import run
from tests.azure.machines import Door, Machine, Output
from tests.azure.refusal import conflict
from tests.azure.world import Resource

IMAGE_TAG = "mlflow-bakery-image"
_PUBLIC = "198.18.{}.{}"
"""From the range for tests of networks (RFC 2544), which nobody routes."""
_AGENT_SECONDS = 60
_COMMAND_SECONDS = 600


@dataclass
class _Booted:
    """A machine on this host."""

    number: int
    spec: MachineSpec
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    disk: Path | None = None
    """The data disk that it has."""


class Box:
    """The machines of one fake, on a network of their own."""

    slow = True

    def __init__(
        self, folder: Path, catalogue: Catalogue, disks: Path, net: network.Network
    ) -> None:
        self._folder, self._catalogue, self._disks = folder, catalogue, disks
        self.network = net
        self._driver = Nspawn()
        self._machines: dict[str, _Booted] = {}
        self._doors: dict[str, tuple[str, tuple[Door, ...]]] = {}
        self._addresses = 0
        self._lock = threading.RLock()

    # -- machines ----------------------------------------------------------------------------------

    def start(self, machine: Machine) -> None:
        one = self._machines.get(machine.id) or self._make(machine)
        self._driver.start(one.spec)
        if not ssh.wait(lambda: self._enter(one, "true").code == 0, seconds=_AGENT_SECONDS):
            raise conflict("OSProvisioningTimedOut", f"{machine.hostname} did not finish in time")
        self.changed(machine)

    def stop(self, machine: Machine) -> None:
        one = self._machines.get(machine.id)
        if one is not None:
            self._driver.stop(one.spec, seconds=30)
            one.disk = None

    def delete(self, machine: Machine) -> None:
        one = self._machines.pop(machine.id, None)
        if one is not None:
            self._driver.stop(one.spec, seconds=0)
            one.spec.disk.unlink(missing_ok=True)
        with self._lock:
            self._doors.pop(machine.id, None)
            self._lead()

    def changed(self, machine: Machine) -> None:
        with self._lock:
            one = self._machines.get(machine.id)
            if one is None or not self._driver.running(one.spec):
                return
            wanted = next((self._disk(disk) for disk in machine.disks.values()), None)
            self._give(one, wanted)
            doors = (machine.address, tuple(machine.doors))
            if self._doors.get(machine.id) != doors:
                self._doors[machine.id] = doors
                self._lead()

    def _give(self, one: _Booted, wanted: Path | None) -> None:
        if one.disk == wanted:
            return
        try:
            if one.disk is not None:
                self._driver.detach(one.spec)
                one.disk = None
            if wanted is not None:
                self._driver.attach(one.spec, wanted)
                one.disk = wanted
        except BakeryError as error:
            raise conflict("DiskServiceInternalError", str(error)) from error

    def run(self, machine: Machine, script: str, parameters: dict[str, str]) -> Output:
        return self._enter(self._machines[machine.id], script, parameters)

    def console(self, machine: Machine) -> str:
        one = self._machines.get(machine.id)
        if one is None or not one.spec.console.exists():
            return ""
        return one.spec.console.read_text(encoding="utf-8", errors="replace")

    def _make(self, machine: Machine) -> _Booted:
        """Copy the image of a machine's gallery version and write what cloud-init will read."""
        with self._lock:
            used = {one.number for one in self._machines.values()}
            number = next(one for one in range(network.MANAGEMENT) if one not in used)
            name = f"{self.network.name}-{number}"
            spec = MachineSpec(
                name=name, disk=self._disks / "machines" / f"{name}-{uuid.uuid4().hex[:6]}.raw",
                folder=self._folder / "machines" / machine.hostname, bridge=self.network.name,
            )  # fmt: skip
            one = self._machines[machine.id] = _Booted(number, spec)
        image = (machine.image.get("tags") or {}).get(IMAGE_TAG, "")
        pool.copy(self._catalogue.disk(image), spec.disk)
        spec.disk.chmod(0o600)
        meta = render(
            "cloud-init/meta-data.yaml.j2",
            instance=one.id, hostname=machine.hostname, public_key=machine.keys[0],
        )  # fmt: skip
        settings = seeds.network_config(self.network, [self.network.management(number)])
        seeds.write_seed(spec, machine.custom_data.decode(), meta, settings)
        return one

    def _enter(self, one: _Booted, script: str, parameters: dict[str, str] | None = None) -> Output:
        """Run a script as root in a machine."""
        leader = _leader(one.spec.name)
        if leader is None:
            return Output(255, "", "the machine does not run")
        words = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid",
                 "--root", "--wd=/", "bash", "-c", script]  # fmt: skip
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        try:
            done = subprocess.run(
                words, env={"PATH": path, "HOME": "/root", **(parameters or {})}, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
                timeout=_COMMAND_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Output(124, "", "the script did not end in time")
        return Output(done.returncode, done.stdout, done.stderr)

    # -- disks -------------------------------------------------------------------------------------

    def disk(self, disk: Resource, source: Resource | None) -> None:
        target = self._disk(disk["id"])
        target.parent.mkdir(parents=True, exist_ok=True)
        if source is not None:
            pool.copy(self._disk(source["id"]), target)
            return
        with target.open("wb") as file:
            file.truncate(disk["properties"]["diskSizeGB"] << 30)
        target.chmod(0o600)

    def delete_disk(self, disk_id: str) -> None:
        self._disk(disk_id).unlink(missing_ok=True)

    def _disk(self, disk_id: str) -> Path:
        parts = disk_id.lower().strip("/").split("/")
        name = "-".join((self.network.name, parts[3], *parts[-2:]))
        return self._disks / "data" / f"{name}.raw"

    # -- addresses ---------------------------------------------------------------------------------

    def allot_address(self) -> str | None:
        """Return an address that is led to this box's network alone."""
        self._addresses += 1
        third = int(self.network.subnet.split(".")[2])
        fourth = int(self.network.subnet.split(".")[3].partition("/")[0])
        address = _PUBLIC.format(third, fourth + self._addresses % 16)
        run(["ip", "route", "replace", f"{address}/32", "dev", self.network.name])
        return address

    def _lead(self) -> None:
        """Translate the public addresses to those of the machines, as the rules allow it."""
        rules, closed = [], []
        for key, (address, doors) in self._doors.items():
            if not address or key not in self._machines:
                continue
            inner = self.network.management(self._machines[key].number)
            for door in doors:
                match = f"ip daddr {address}"
                if door.source != "*":
                    match += f" ip saddr {door.source}"
                match += " meta l4proto tcp" if door.ports == "*" else f" tcp dport {door.ports}"
                rules.append(f"{match} {f'dnat to {inner}' if door.allowed else 'return'}")
            # Azure says nothing at all; a scan of all ports would then take minutes.
            closed.append(f"ip daddr {address} meta l4proto tcp reject with tcp reset")
        table = _TABLE.format(
            name=f"{self.network.name}p", rules="\n".join(rules), closed="\n".join(closed),
            subnet=self.network.subnet,
        )  # fmt: skip
        run(["nft", "-f", "-"], stdin=table)

    def close(self) -> None:
        """End all machines and remove their disks."""
        for one in self._machines.values():
            self._driver.stop(one.spec, seconds=0)
            one.spec.disk.unlink(missing_ok=True)
        self._machines.clear()
        for file in (self._disks / "data").glob(f"{self.network.name}-*.raw"):
            file.unlink()
        run(["nft", "delete", "table", "ip", f"{self.network.name}p"], check=False)


# The way back of what one machine asks of another leads past this host, too.
_TABLE = """
table ip {name} {{ }}
delete table ip {name}
table ip {name} {{
    chain here {{
        type nat hook output priority -100;
        {rules}
    }}
    chain through {{
        type nat hook prerouting priority -100;
        {rules}
    }}
    chain back {{
        type nat hook postrouting priority 100;
        ct status dnat ip saddr {subnet} ip daddr {subnet} masquerade
    }}
    chain closed {{
        type filter hook output priority filter;
        {closed}
    }}
}}
"""


def _leader(name: str) -> int | None:
    """Return the process of this host that is the first one in a machine of nspawn."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if (
                not words[0].endswith(b"systemd-nspawn")
                or f"--machine={name}".encode() not in words
            ):
                continue
            children = (folder / "task" / folder.name / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            status = Path(f"/proc/{child}/status").read_text(encoding="ascii", errors="replace")
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if numbers.split()[-1] == "1":
                return int(child)
    return None


@contextmanager
def box(folder: Path, state: Path) -> Iterator[Box]:
    """Give a box whose machines boot the images of a state folder.

    `folder` is for consoles and seeds, and must be one of a short path.
    """
    name = f"bk{uuid.uuid4().hex[:6]}"
    with pool.opened(state.absolute()) as disks:
        net = network.allot(name)
        made = Box(folder.absolute(), Catalogue(state.absolute(), disks), disks, net)
        try:
            yield made
        finally:
            made.close()
            network.take_down(name)
