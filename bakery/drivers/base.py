"""What a driver does: run a machine from a disk, watch it, end it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class MachineSpec:
    """All that a driver needs to run one machine."""

    name: str
    """Unique on this host; at most 12 characters, for the sake of the link's name."""
    disk: Path
    """A raw, bootable disk; the machine writes to it."""
    folder: Path
    """The machine's own folder on the host: console log, seed, process id."""
    bridge: str

    @property
    def seed(self) -> Path:
        """The NoCloud seed: user-data, meta-data, network-config."""
        return self.folder / "seed"

    @property
    def console(self) -> Path:
        """What the machine wrote to its console."""
        return self.folder / "console.log"

    def as_json(self) -> dict[str, str]:
        """Return the values as JSON takes them."""
        return {key: str(value) for key, value in asdict(self).items()}


class Driver(Protocol):
    """Runs machines on this host."""

    def check(self) -> None:
        """Raise InputError when this host cannot run machines with this driver."""

    def start(self, spec: MachineSpec) -> None:
        """Boot a machine; it outlives this process. Nothing to do when it runs."""

    def stop(self, spec: MachineSpec, *, seconds: float = 60) -> None:
        """Shut a machine down in order, or by force when that takes too long."""

    def running(self, spec: MachineSpec) -> bool:
        """Return whether the machine's process is there."""

    def attach(self, spec: MachineSpec, disk: Path) -> None:
        """Give a running machine a data disk, hot; nothing to do when it has it.

        Raises:
            BakeryError: Another machine has it, or this one does not run.
        """

    def detach(self, spec: MachineSpec) -> None:
        """Take the data disk from a machine that has unmounted it; nothing to do without one.

        Raises:
            BakeryError: The machine still has it mounted.
        """

    def host_key(self, spec: MachineSpec) -> str | None:
        """Return the machine's public SSH host key, read from its disk and not from the network."""
