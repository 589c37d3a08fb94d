"""What the local target needs of this host."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from bakery import packer
from bakery.debian import host_mirrors
from bakery.doctor.finding import Finding
from bakery.drivers.nspawn import Nspawn
from bakery.settings import Settings

if TYPE_CHECKING:
    from bakery.doctor import Probe

_GIB = 1 << 30
# What a first bake and a deployment take.
_NEEDED_GIB = 12
# With the caches filled.
_NEEDED_AGAIN_GIB = 8
_TOOLS = {
    "systemd-nspawn": ("systemd-container", "boots machines"),
    "ip": ("iproute2", "makes their network"),
    "nft": ("nftables", "leads addresses to machines"),
    "ssh": ("openssh-client", "logs in"),
    "sfdisk": ("fdisk", "grows disks"),
    "mkfs.ext4": ("e2fsprogs", "makes disks"),
    "mkfs.xfs": ("xfsprogs", "copies disks without copying"),
    "mmdebstrap": ("mmdebstrap", "builds the base"),
    "mcopy": ("mtools", "builds the base"),
    "mkfs.vfat": ("dosfstools", "builds the base"),
    "node": ("nodejs", "runs Azurite"),
    "npm": ("npm", "installs Azurite"),
}


def probes() -> "list[tuple[str, Probe]]":
    """Return what is looked at, in order."""
    return [
        ("root", _root),
        ("tools", _tools),
        ("Packer", _packer),
        ("driver", _driver),
        ("acceleration", _acceleration),
        ("disk space", _space),
        ("packages", _packages),
        ("Docker", _docker),
    ]


def _root(_settings: Settings) -> Iterator[Finding]:
    ok = os.geteuid() == 0
    yield Finding("root", "yes" if ok else "machines and disks need root", ok, "run it with sudo")


def _tools(_settings: Settings) -> Iterator[Finding]:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    for tool, (package, why) in _TOOLS.items():
        found = shutil.which(tool, path=path)
        yield Finding(
            tool, found or f"missing: it {why}", ok=bool(found), fix=f"apt-get install {package}"
        )


def _packer(_settings: Settings) -> Iterator[Finding]:
    place, version = packer.find_packer()
    yield Finding("packer", f"{place} {'.'.join(map(str, version))}")


def _driver(_settings: Settings) -> Iterator[Finding]:
    Nspawn().check()
    yield Finding("driver", "nspawn can boot machines here")


def _acceleration(settings: Settings) -> Iterator[Finding]:
    """Tell whether QEMU takes KVM here; a kernel under it may still not run."""
    remembered = settings.state_dir.absolute() / "cache" / "kvm"
    if not remembered.exists():
        works = kvm_works()
        if remembered.parent.exists():
            remembered.write_text("yes" if works else "no", encoding="ascii")
    else:
        works = remembered.read_text(encoding="ascii") == "yes"
    text = "QEMU takes KVM" if works else "no KVM"
    text += "; nspawn, which runs the machines, needs none"
    yield Finding("acceleration", text, note="" if works else f"to look again: rm {remembered}")


def kvm_works(device: Path = Path("/dev/kvm")) -> bool:
    """Try whether QEMU starts with KVM; that a device opens proves even less."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None or not os.access(device, os.R_OK | os.W_OK):
        return False
    words = [qemu, "-accel", "kvm", "-display", "none", "-nodefaults", "-S", "-monitor", "stdio"]
    try:
        done = subprocess.run(
            words, input="quit\n", capture_output=True, text=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _space(settings: Settings) -> Iterator[Finding]:
    folder = settings.state_dir.absolute()
    needed = _NEEDED_AGAIN_GIB if (folder / "cache" / "containers").exists() else _NEEDED_GIB
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk space",
        f"{free / _GIB:.1f} GiB free in {folder}; a bake and a server take {needed}",
        ok=free >= needed * _GIB,
        fix="free some, or set BAKERY_STATE_DIR to a folder on another disk",
    )


def _packages(_settings: Settings) -> Iterator[Finding]:
    mirrors = host_mirrors()
    yield _reachable("Debian packages", f"{mirrors.main.rstrip('/')}/dists/trixie/Release")


def _reachable(name: str, url: str) -> Finding:
    if not url.startswith("http"):
        return Finding(name, url)
    try:
        requests.head(url, timeout=10, allow_redirects=True).raise_for_status()
    except requests.RequestException as failed:
        why = type(failed).__name__
        return Finding(name, f"{url}: {why}", ok=False, fix="check the network, proxy and mirror")
    return Finding(name, url)


def _docker(_settings: Settings) -> Iterator[Finding]:
    """Tell of a Docker on the host, whose firewall drops what machines send."""
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    shown = ""
    if nft and os.geteuid() == 0:
        words = [nft, "list", "chain", "ip", "filter", "FORWARD"]
        shown = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    if "policy drop" in shown:
        yield Finding(
            "Docker",
            "its firewall drops forwarded packets; our rules let the machines' pass",
            note="if a machine has no way out: nft list chain ip filter DOCKER-USER",
        )
    else:
        yield Finding("Docker", "nothing on this host stands in the way of the machines' network")
