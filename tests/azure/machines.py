"""What stands behind a virtual machine: nothing here, a stand-in, or a booted image."""

from dataclasses import dataclass, field
from typing import Protocol

from tests.azure.world import Resource


@dataclass(frozen=True)
class Output:
    """What a command in a machine came to."""

    code: int = 0
    out: str = ""
    err: str = ""


@dataclass(frozen=True)
class Door:
    """A rule of a security group: who may reach which TCP port, or may not."""

    allowed: bool
    source: str
    """A range of addresses; `*` for everybody."""
    ports: str
    """One, a range such as 80-90, or `*`."""


@dataclass
class Machine:
    """A virtual machine as its hypervisor sees it."""

    id: str
    """Lower-cased."""
    size: str
    image: Resource
    """The gallery version that it is made from; {} for one of the Marketplace."""
    custom_data: bytes
    user: str
    keys: list[str]
    hostname: str
    disks: dict[int, str] = field(default_factory=dict)
    """The ids of the data disks, by their LUN."""
    address: str = ""
    """The public address that leads to it."""
    doors: list[Door] = field(default_factory=list)
    """What its security groups say of connections from outside, the first rule first."""


class Machines(Protocol):
    """What runs the machines. Each call may block as long as the real thing takes."""

    slow: bool
    """Calls are worth a thread of their own."""

    def start(self, machine: Machine) -> None: ...
    def stop(self, machine: Machine) -> None: ...
    def delete(self, machine: Machine) -> None: ...
    def changed(self, machine: Machine) -> None:
        """Tell of other disks or another address while it runs."""

    def disk(self, disk: Resource, source: Resource | None) -> None:
        """Make a data disk, empty or a copy."""

    def delete_disk(self, disk_id: str) -> None: ...
    def run(self, machine: Machine, script: str, parameters: dict[str, str]) -> Output: ...
    def console(self, machine: Machine) -> str: ...
    def allot_address(self) -> str | None:
        """Return a new public address; None: the fake chooses one for documentation."""


class NoMachines:
    """Machines that are only written down."""

    slow = False

    def __init__(self) -> None:
        self.output = Output()
        self.scripts: list[tuple[str, dict[str, str]]] = []
        self.running: set[str] = set()

    def start(self, machine: Machine) -> None:
        self.running.add(machine.id)

    def stop(self, machine: Machine) -> None:
        self.running.discard(machine.id)

    def delete(self, machine: Machine) -> None:
        self.running.discard(machine.id)

    def changed(self, machine: Machine) -> None:
        pass

    def disk(self, disk: Resource, source: Resource | None) -> None:
        pass

    def delete_disk(self, disk_id: str) -> None:
        pass

    def run(
        self,
        machine: Machine,  # noqa: ARG002
        script: str,
        parameters: dict[str, str],
    ) -> Output:
        self.scripts.append((script, parameters))
        return self.output

    def console(self, machine: Machine) -> str:
        return f"Ubuntu 20.04 LTS {machine.hostname} ttyS0\n\n{machine.hostname} login: "

    def allot_address(self) -> str | None:
        return None
