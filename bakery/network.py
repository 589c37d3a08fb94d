"""The private network of a deployment: a bridge, a small subnet, masquerading.

Everything changed on the host bears the network's name and is removed with it.
"""

import fcntl
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bakery.errors import BakeryError
from bakery.run import need, run

_RANGE = ipaddress.ip_network("10.88.0.0/16")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_HOST = Path("/run/mlflow-bakery")
_FIRST_MANAGEMENT, MANAGEMENT = 4, 8


@dataclass(frozen=True)
class Network:
    """A bridge `name` on the host and the /28 behind it."""

    name: str
    """At most 12 characters: the host's link names end at 15."""
    subnet: str

    @property
    def _addresses(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def gateway(self) -> str:
        """The host's end; Azurite listens only there."""
        return str(self._addresses[1])

    @property
    def service(self) -> str:
        """The address that clients use."""
        return str(self._addresses[2])

    @property
    def training(self) -> str:
        """The address of the training machine."""
        return str(self._addresses[3])

    @property
    def prefix(self) -> int:
        """The length of the network prefix."""
        return self._addresses.prefixlen

    def management(self, generation: int) -> str:
        """Return the address by which one generation is reached whatever it serves."""
        return str(self._addresses[_FIRST_MANAGEMENT + generation % MANAGEMENT])


def allot(name: str) -> Network:
    """Choose a subnet that nothing on this host uses, and bring the network up.

    Raises:
        BakeryError: None is free.
    """
    with _host_lock():
        used = _used()
        for subnet in _RANGE.subnets(new_prefix=28):
            if not any(subnet.overlaps(other) for other in used):
                network = Network(name=name, subnet=str(subnet))
                _raise(network)
                return network
    raise BakeryError(f"no free subnet in {_RANGE}", hint="destroy deployments: ./inv destroy")


def exists(name: str) -> bool:
    """Return whether a network's bridge is there."""
    return name in _links()


def bring_up(network: Network) -> None:
    """Make the network exist; nothing to do when it does.

    Raises:
        BakeryError: Something else has taken its addresses since.
    """
    with _host_lock():
        if network.name not in _links():
            ours = ipaddress.ip_network(network.subnet)
            if any(ours.overlaps(other) for other in _used()):
                raise BakeryError(
                    f"{network.subnet} has been taken by something else on this host",
                    hint="see `ip route`; free it, or deploy under another --name",
                )
        _raise(network)


def lead(network: Network, generation: int) -> None:
    """Lead the service address to one generation's machine, in one step.

    Each machine has the address as its own, but only this host's route decides who is asked: it
    is more exact than the bridge's. What comes for an old connection, the new machine resets.
    """
    run(
        ["ip", "route", "replace", f"{network.service}/32",
         "via", network.management(generation), "dev", network.name]
    )  # fmt: skip


def take_down(name: str) -> None:
    """Remove a network and what it changed on the host; nothing to do when it is gone."""
    with _host_lock():
        if name in _links():
            run(["ip", "link", "delete", name], check=False)
        run(["nft", "delete", "table", "ip", name], check=False)
        for rule in _forward_rules(name):
            run(["iptables", "-D", "FORWARD", *rule], check=False)
        _restore_forwarding()


def _raise(network: Network) -> None:
    need("nft", package="nftables", why="machines reach package archives through this host")
    if network.name not in _links():
        run(["ip", "link", "add", network.name, "type", "bridge"])
    run(["ip", "address", "replace", f"{network.gateway}/{network.prefix}", "dev", network.name])
    run(["ip", "link", "set", network.name, "up"])
    _forward()
    run(["nft", "-f", "-"], stdin=_nat(network))
    _accept_forwarding(network)


def _nat(network: Network) -> str:
    # The empty table first, so that the deletion never fails: one transaction, always the same.
    return f"""
    table ip {network.name} {{ }}
    delete table ip {network.name}
    table ip {network.name} {{
        chain postrouting {{
            type nat hook postrouting priority srcnat;
            ip saddr {network.subnet} oifname != "{network.name}" masquerade
        }}
        chain output {{
            type filter hook output priority filter;
            # A machine that asks for the service address must go on asking this host for it.
            oifname "{network.name}" icmp type redirect drop
        }}
    }}
    """


def _accept_forwarding(network: Network) -> None:
    """Let the machines through where something (Docker on the host) drops by policy."""
    listed = run(["iptables", "-S", "FORWARD"], check=False).stdout if _have_iptables() else ""
    if "-P FORWARD DROP" not in listed:
        return
    for rule in _forward_rules(network.name):
        if f"-A FORWARD {' '.join(rule)}" not in listed:
            run(["iptables", "-I", "FORWARD", *rule])


def _forward_rules(name: str) -> list[list[str]]:
    if not _have_iptables():
        return []
    return [["-i", name, "-j", "ACCEPT"], ["-o", name, "-j", "ACCEPT"]]


def _have_iptables() -> bool:
    return Path("/usr/sbin/iptables").exists()


def _forward() -> None:
    _HOST.mkdir(exist_ok=True)
    before = _FORWARD.read_text(encoding="ascii").strip()
    if before == "0":
        (_HOST / "ip_forward").write_text(before, encoding="ascii")
        _FORWARD.write_text("1", encoding="ascii")


def _restore_forwarding() -> None:
    saved = _HOST / "ip_forward"
    if saved.exists() and not any(name.startswith("bk") for name in _links()):
        _FORWARD.write_text(saved.read_text(encoding="ascii"), encoding="ascii")
        saved.unlink()


def _links() -> set[str]:
    return {row["ifname"] for row in json.loads(run(["ip", "-json", "link"]).stdout)}


def _used() -> list[ipaddress.IPv4Network]:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout)
    found = [row["dst"] for row in routes if row.get("dst", "default") != "default"]
    return [ipaddress.IPv4Network(dst, strict=False) for dst in found if ":" not in dst]


@contextmanager
def _host_lock() -> Iterator[None]:
    """Keep two state folders on one host from choosing the same subnet."""
    with Path("/run/mlflow-bakery.lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
