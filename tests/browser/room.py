"""A network of a browser's own, at a deployment's bridge and nowhere else.

Chromium drops its connections whenever a link of its host comes or goes, and other tests make and
remove machines. In here nothing changes; and a page that asks others for something gets no answer.
"""

import ipaddress
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.bakery import Bakery, until

# The last addresses of a deployment's subnet are nobody's.
_FREE = 13


@contextmanager
def apart(server: Bakery) -> Iterator[int]:
    """Make a network namespace with one link to the deployment; the process that holds it."""
    network = server.facts["network"]
    subnet = ipaddress.IPv4Network(network["subnet"])
    outside = f"{network['name']}-web"
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
    )
    try:
        own = Path("/proc/self/ns/net").readlink()
        there = Path(f"/proc/{holder.pid}/ns/net")
        until(lambda: there.readlink() != own, seconds=10, what="a network namespace")
        _run("ip", "link", "add", outside, "type", "veth", "peer", "eth0", "netns", str(holder.pid))
        _run("ip", "link", "set", outside, "master", network["name"], "up")
        inside = ("nsenter", "--target", str(holder.pid), "--net", "ip")
        # Without an address of version 6, which would be settled only a second later: a change.
        _run(*inside, "link", "set", "eth0", "addrgenmode", "none", "up")
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"{subnet[_FREE]}/{subnet.prefixlen}", "dev", "eth0")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
