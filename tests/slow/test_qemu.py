"""The baked disk boots under QEMU: firmware, boot loader, kernel, initrd, udev, as elsewhere.

The processor is emulated, so this is slow and proves no more than it must: up to SSH, the data
disk by its virtio name, the images. The local target's own machines prove the rest.
"""

import json
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bakery import environment, pool, ssh, tls
from bakery.drivers.qemu_host import FIRMWARE, QEMU, VARIABLES
from bakery.manifest import Catalogue, Manifest
from bakery.render import render
from bakery.run import environment as child_environment
from bakery.run import run, tail
from bakery.targets.base import SshAccess
from tests.unit.machine.samples import UUID, environment_data

# As root, like every machine here: without it they fail, and say so.
pytestmark = pytest.mark.machine

# Emulated, on a busy host of two cores.
BOOT_SECONDS = 900
SETTLE_SECONDS = 900
DISK_GIB = 2
GIVEN_UP = ("Kernel panic", "(initramfs)", "emergency mode")
# Takes minutes more, and cloud-init's last stage waits for it.
SERVER = "mlflow.service"


class PatientAccess(SshAccess):
    """Waits longer for the greeting: the guest has to start a process first."""

    @property
    def options(self) -> list[str]:
        # ssh takes the first of two.
        return ["-o", "ConnectTimeout=60", *super().options]


@dataclass(frozen=True)
class Guest:
    """A guest that runs, and its console."""

    process: subprocess.Popen[bytes]
    console: Path
    access: SshAccess
    host_key: str
    image: Manifest

    def check(self) -> None:
        """Fail early, with the console's end, when nothing more can come."""
        if self.process.poll() is not None:
            said = tail(self.console.with_name("qemu.log"))
            raise AssertionError(f"QEMU ended: {said}\n{tail(self.console, 40)}")
        said = self.console.read_text(encoding="utf-8", errors="replace")
        if any(sign in said for sign in GIVEN_UP):
            raise AssertionError(f"it does not boot:\n{tail(self.console, 40)}")

    def answers(self) -> bool:
        """Return whether one can log in."""
        self.check()
        # Ours by vendor-data, so that no stranger's key is ever trusted.
        kind, value = self.host_key.split()[:2]
        known = f"[{self.access.host}]:{self.access.port} {kind} {value}\n"
        self.access.known_hosts.write_text(known, encoding="ascii")
        return ssh.command(self.access, ["true"], timeout=120).returncode == 0

    def said(self, *words: str) -> str:
        """Run a command as root that has to succeed."""
        done = ssh.command(self.access, ["sudo", *words], timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def wait(self, command: list[str], wanted: set[str], seconds: float) -> None:
        """Wait until a command's lines are among those wanted."""
        deadline = time.monotonic() + seconds
        while not set(self.said(*command).splitlines()) <= wanted:
            self.check()
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.said(*command)}\n{tail(self.console, 40)}")
            time.sleep(2)


@pytest.fixture(scope="module")
def guest(state: Path, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Boot the image with an empty data disk, wait until one can log in, and end it."""
    folder = tmp_path_factory.mktemp("qemu")
    try:
        with pool.opened(state.absolute()) as disks:
            catalogue = Catalogue(state.absolute(), disks)
            make_disks(folder, catalogue.disk(image))
            access, host_key = make_seed(folder)
            with booted(folder, access.port) as process:
                console, manifest = folder / "console.log", catalogue.choose(image)
                guest = Guest(process, console, access, host_key, manifest)
                if not ssh.wait(guest.answers, seconds=BOOT_SECONDS, pause=2):
                    raise AssertionError(f"no SSH in {BOOT_SECONDS} s:\n{tail(console, 40)}")
                yield guest
    finally:
        shutil.rmtree(folder)


def make_disks(folder: Path, image: Path) -> None:
    """Make what the guest writes to: a layer over the image, a data disk, firmware settings."""
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
    run([*words, "-b", image, folder / "disk.qcow2"])
    with (folder / "data.raw").open("wb") as file:
        file.truncate(DISK_GIB << 30)
    shutil.copyfile(VARIABLES, folder / "variables.fd")


def make_seed(folder: Path) -> tuple[SshAccess, str]:
    """Make the seed disk; return how to log in, and the host key that the guest will have."""
    seed = folder / "seed"
    seed.mkdir(mode=0o700)
    public = ssh.make_key(folder / "user")
    host_key = ssh.make_key(folder / "host")
    meta = render(
        "cloud-init/meta-data.yaml.j2",
        instance=uuid.uuid4().hex,
        hostname="mlflow",
        public_key=public,
    )
    (seed / "meta-data").write_text(meta, encoding="utf-8")
    (seed / "user-data").write_text(environment.user_data(values(folder), 1), encoding="utf-8")
    (seed / "vendor-data").write_text(vendor_data(folder / "host"), encoding="utf-8")
    # No network-config: the guest asks for its address, as it will on Azure.
    disk = folder / "seed.img"
    run(["mkfs.vfat", "-n", "CIDATA", "-C", disk, "2048"])
    run(["mcopy", "-i", disk, *sorted(seed.iterdir()), "::/"])
    key, known_hosts = folder / "user", folder / "known_hosts"
    return PatientAccess("127.0.0.1", "bakery", key, known_hosts, free_port()), host_key


def values(folder: Path) -> dict[str, Any]:
    """Return an environment whose store is out of reach: nothing is logged here."""
    certificate = tls.local_certificate(folder / "tls", "mlflow.bakery.internal", "10.0.2.15")
    return environment_data(
        users={"mlflow": environment.hash_password("a password")},
        tls={"certificate": certificate.chain, "key": certificate.key},
    )


def vendor_data(host_key: Path) -> str:
    keys = {
        "ed25519_private": host_key.read_text(encoding="ascii"),
        "ed25519_public": host_key.with_suffix(".pub").read_text(encoding="ascii"),
    }
    return "#cloud-config\n" + json.dumps({"ssh_keys": keys})


def free_port() -> int:
    """Return a port below those that the kernel gives away by itself."""
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def booted(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run QEMU; it ends with the test, even with a killed one."""
    (folder / "console.log").touch()
    with (folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command(folder, port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment(),
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def command(folder: Path, port: int) -> list[str]:
    drives = {
        "disk": f"file={folder}/disk.qcow2,format=qcow2,cache=unsafe,discard=unmap",
        "data": f"file={folder}/data.raw,format=raw,cache=unsafe,discard=unmap",
        "seed": f"file={folder}/seed.img,format=raw,readonly=on",
    }
    serials = {"data": ",serial=mlflow-data"}
    words = [QEMU, "-name", f"bakery-{port}", "-machine", "q35", "-nodefaults", "-display", "none"]
    words += ["-no-reboot"]  # a guest that gives up ends
    # By name: a /dev/kvm that opens may still not run a kernel.
    words += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "4096"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={folder}/variables.fd"]
    for name, options in drives.items():
        words += ["-drive", f"if=none,id={name},{options}"]
        words += ["-device", f"virtio-blk-pci,drive={name}{serials.get(name, '')}"]
    words += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    words += ["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]
    return [*words, "-serial", f"file:{folder}/console.log"]


@pytest.fixture(scope="module")
def settled(guest: Guest) -> Guest:
    """The guest when all that it starts has ended or runs, but for the server itself."""
    units = "systemctl list-jobs --plain --no-legend | awk '$4 == \"running\" {print $2}'"
    guest.wait(["sh", "-c", units], {SERVER}, SETTLE_SECONDS)
    return guest


def test_the_firmware_boots_it(settled: Guest) -> None:
    assert settled.said("sh", "-c", "test -d /sys/firmware/efi && echo yes") == "yes"
    assert settled.said("systemd-detect-virt") == "qemu"
    root = settled.said("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--mountpoint", "/")
    assert root.split() == ["/dev/vda2", "ext4"]


def test_cloud_init_took_the_seed(settled: Guest) -> None:
    # Its last stage waits for the server, so there is no result yet.
    found = json.loads(settled.said("cat", "/run/cloud-init/status.json"))["v1"]
    assert found["datasource"].startswith("DataSourceNoCloud")
    stages = [value for value in found.values() if isinstance(value, dict) and "errors" in value]
    assert len(stages) >= 3
    assert [stage["errors"] for stage in stages if stage["errors"]] == []


def test_the_network_comes_up_by_itself(settled: Guest) -> None:
    assert "10.0.2.15" in settled.said("ip", "-brief", "-4", "address", "show", "eth0")
    assert "DHCPv4" in settled.said("networkctl", "status", "eth0")


def test_no_unit_failed(settled: Guest) -> None:
    assert settled.said("systemctl", "list-units", "--state=failed", "--plain", "--no-legend") == ""


def test_the_guard_made_and_mounted_the_data_disk(settled: Guest) -> None:
    assert settled.said("systemctl", "is-active", "mlflow-data-disk.service") == "active"
    source = "findmnt --noheadings --output SOURCE --mountpoint /var/lib/mlflow-data"
    device = settled.said(*source.split())
    assert device == settled.said("readlink", "-f", "/dev/disk/by-id/virtio-mlflow-data")
    assert settled.said("blkid", "-p", "-s", "UUID", "-o", "value", device) == UUID


def test_the_images_are_those_of_the_manifest(settled: Guest) -> None:
    wanted = {one.reference: one.image_id for one in settled.image.containers}
    assert len(wanted) == 3
    form = "{{.Id}}"
    found = settled.said("docker", "image", "inspect", "--format", form, *wanted)
    assert found.splitlines() == list(wanted.values())
