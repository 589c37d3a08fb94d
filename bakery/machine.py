"""Booting a machine until one can log in, on whatever driver."""

from pathlib import Path

from bakery import ssh
from bakery.drivers.base import Driver, MachineSpec
from bakery.errors import BakeryError
from bakery.network import Network
from bakery.render import render
from bakery.run import tail
from bakery.state import write_atomically
from bakery.targets.base import SshAccess


def write_seed(spec: MachineSpec, user_data: str, meta_data: str, network: str) -> None:
    """Write a NoCloud seed; it may hold secrets, so nobody else can read it."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    spec.seed.mkdir(mode=0o700, exist_ok=True)
    write_atomically(spec.seed / "user-data", user_data)
    write_atomically(spec.seed / "meta-data", meta_data)
    write_atomically(spec.seed / "network-config", network)


def boot(driver: Driver, spec: MachineSpec, access: SshAccess, *, seconds: float) -> None:
    """Start a machine and wait until SSH answers.

    Raises:
        BakeryError: It ended, or did not answer in time; the console's tail is shown.
    """
    driver.start(spec)
    ended = False

    def up() -> bool:
        nonlocal ended
        ended = not driver.running(spec)
        return ended or ssh.answers(access, lambda: driver.host_key(spec))

    if ssh.wait(up, seconds=seconds) and not ended:
        return
    what = "ended while it booted" if ended else f"did not answer over SSH within {seconds:.0f} s"
    raise BakeryError(
        f"the machine {spec.name} {what}",
        hint="the end of its console is shown; the rest is in the log",
        log=spec.console,
        tail=console_tail(spec.console),
    )


def console_tail(console: Path) -> str:
    """Return the end of a console, without what would garble the terminal of the caller."""
    return "".join(c for c in tail(console) if c == "\n" or c.isprintable())


def network_config(network: Network, addresses: list[str]) -> str:
    """Return the NoCloud network configuration of a machine with fixed addresses.

    The service address moves between machines: who has it has it alone (/32), and everybody else
    reaches it through this host.
    """
    prefixes = {network.service: 32}
    return render(
        "cloud-init/network-config.yaml.j2",
        addresses=[f"{one}/{prefixes.get(one, network.prefix)}" for one in addresses],
        moving=[] if network.service in addresses else [network.service],
        gateway=network.gateway,
        nameservers=_name_servers(),
    )


def _name_servers() -> list[str]:
    """Return the host's name servers that a machine can reach too."""
    uplink = Path("/run/systemd/resolve/resolv.conf")
    source = uplink if uplink.exists() else Path("/etc/resolv.conf")
    rows = [line.split() for line in source.read_text(encoding="utf-8").splitlines()]
    found = [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]
    return [address for address in found if not address.startswith("127.")]
