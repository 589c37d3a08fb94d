"""The data disk: found, checked, made once, mounted. Whatever is unclear is refused untouched."""

from __future__ import annotations

import argparse
import os
import re
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mlflow_bakery_machine.environment import choose_environment, read_environment
from mlflow_bakery_machine.files import MachineError

DEVICES = (
    "/dev/disk/azure/scsi1/lun10",
    "/dev/disk/azure/data/by-lun/10",
    "/dev/disk/by-id/virtio-mlflow-data",
    "/dev/mlflow-disks/data",
)
LABEL = "mlflow-data"
UNFINISHED = "mlflow-half"
"""The label while the file system is being made; the last step of making it is the rename."""

_PATIENCE = 60
"""Seconds between two messages while the disk is awaited."""


class Action(Enum):
    """What to do with the disk."""

    MOUNT = "mount"
    FORMAT = "format"


@dataclass(frozen=True)
class Probe:
    """What a low-level probe finds on a device; `facts` is empty when there is no signature."""

    device: str
    facts: Dict[str, str]

    @property
    def uuid(self) -> str:
        """The file system's UUID, or nothing."""
        return self.facts.get("UUID", "").lower()

    @property
    def summary(self) -> str:
        """What is there, for a message."""
        words = ["{}={}".format(k, v) for k, v in sorted(self.facts.items()) if k in _SHOWN]
        return ", ".join(words) or "something without a name"


_SHOWN = ("LABEL", "PTTYPE", "TYPE", "UUID", "AMBIVALENT")


def decide(probe: Probe, *, uuid: str, first: bool) -> Action:
    """Return what to do with a disk.

    Raises:
        MachineError: It is not ours, or not what it should be; nothing may touch it.
    """
    if not probe.facts:
        if first:
            return Action.FORMAT
        raise MachineError(
            "{} is empty, but this deployment has data (file system {}): the wrong disk is"
            " attached. It was not touched.".format(probe.device, uuid)
        )
    if probe.uuid != uuid or probe.facts.get("TYPE") != "ext4":
        raise MachineError(
            "{} carries another file system ({}), wanted is ext4 with UUID {}."
            " It was not touched.".format(probe.device, probe.summary, uuid)
        )
    if probe.facts.get("LABEL") != UNFINISHED:
        return Action.MOUNT
    if first:
        return Action.FORMAT
    raise MachineError(
        "{} was never made to the end (label {}), but this deployment has data: restore the disk"
        " from a snapshot. It was not touched.".format(probe.device, UNFINISHED)
    )


def choose_device(probes: Sequence[Probe], uuid: str) -> Probe:
    """Return the one disk to look at: the one with our UUID, else the only one there.

    Raises:
        MachineError: Several are there and none is ours.
    """
    ours = [probe for probe in probes if probe.uuid == uuid]
    if len(ours) == 1:
        return ours[0]
    if len(probes) == 1:
        return probes[0]
    names = ", ".join(probe.device for probe in probes)
    raise MachineError(
        "{} of several disks ({}) carry UUID {}. None was touched.".format(
            "more than one" if ours else "none", names, uuid
        )
    )


def probe_device(device: str) -> Probe:
    """Look for signatures on the device itself, past every cache.

    Raises:
        MachineError: The device cannot be read.
    """
    done = _run(["blkid", "-p", "-o", "export", device])
    if done.returncode == 0:
        lines = [line.partition("=") for line in done.stdout.splitlines()]
        # udev's tools escape blanks; nothing that is compared here has any.
        return Probe(device, {key: value for key, _, value in lines if key != "DEVNAME"})
    if done.returncode == 8:
        return Probe(device, {"AMBIVALENT": "several signatures"})
    # 2 means "nothing found" and "cannot read" alike: reading tells which.
    if done.returncode == 2 and _readable(device):
        return Probe(device, {})
    raise MachineError("{} cannot be probed: {}".format(device, done.stderr.strip()))


def find_devices(candidates: Sequence[str]) -> List[str]:
    """Return the block devices that are there, each once and by its real path."""
    found: List[str] = []
    for candidate in candidates:
        path = os.path.realpath(candidate)
        # While a disk is being attached, its node may be there with nothing behind it.
        if _is_block_device(path) and path not in found and _readable(path):
            found.append(path)
    return found


def wait_for_devices(candidates: Sequence[str]) -> List[str]:
    """Wait until a data disk is attached, however long that takes."""
    said: Optional[float] = None
    while True:
        found = find_devices(candidates)
        if found:
            return found
        if said is None or time.monotonic() - said > _PATIENCE:
            _say("waiting for the data disk at " + " or ".join(candidates))
            said = time.monotonic()
        time.sleep(0.1)


def make_file_system(device: str, uuid: str) -> None:
    """Make our file system so that a kill at any moment leaves a disk that is made anew.

    mkfs writes the superblock last, so a kill leaves no signature or the label of an unfinished
    one; the final label is one block, written when all else is on the disk.
    """
    options = ["-O", "^orphan_file"] if _knows_orphan_file() else []
    _must(["mkfs.ext4", "-q", "-F", *options, "-U", uuid, "-L", UNFINISHED, device])
    _flush(device)
    _must(["tune2fs", "-L", LABEL, device])
    _flush(device)


def check_file_system(device: str, *options: str) -> None:
    """Replay the journal and repair what is safe to repair; with the option -f look at all of it.

    Raises:
        MachineError: The file system needs a person.
    """
    done = _run(["e2fsck", "-p", *options, device])
    if done.returncode not in (0, 1):
        raise MachineError(
            "e2fsck -p {} ended with {}: {}. It was not mounted; look at it with e2fsck -n.".format(
                device, done.returncode, (done.stdout + done.stderr).strip()
            )
        )


def mount(device: str, target: Path) -> None:
    """Mount the data disk."""
    target.mkdir(parents=True, exist_ok=True)
    # By path: without udev there is no name for a label or a UUID.
    options = "noatime,nodev,nosuid,noexec"
    _must(["mount", "-t", "ext4", "-o", options, device, str(target)])


def grow(device: str, *, mounted: bool) -> None:
    """Let the file system take all of its device, if that has become larger.

    Raises:
        MachineError: It cannot; when it is mounted, this takes a right that not every host grants.
    """
    blocks, size = file_system_size(_must(["dumpe2fs", "-h", device]))
    if int(_must(["blockdev", "--getsize64", device])) // size <= blocks:
        return
    if not mounted:
        check_file_system(device, "-f")  # resize2fs insists
    _must(["resize2fs", device])
    _say("{} has grown".format(device))


def file_system_size(text: str) -> Tuple[int, int]:
    """Return the number of blocks and their size in bytes, as `dumpe2fs -h` tells them.

    Raises:
        MachineError: It does not.
    """
    found = [re.search(name + r":\s+(\d+)", text) for name in ("Block count", "Block size")]
    if not all(found):
        raise MachineError("dumpe2fs does not tell a size")
    blocks, size = (int(one.group(1)) for one in found if one)
    return blocks, size


def mounted_device(target: Path) -> Optional[str]:
    """Return the device mounted at a path, if any."""
    done = _run(["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", str(target)])
    lines = done.stdout.split()
    return os.path.realpath(lines[-1]) if done.returncode == 0 and lines else None


def attach(*, uuid: str, first: bool, target: Path, candidates: Sequence[str]) -> str:
    """Bring the data disk to its mount point and return what was done.

    Raises:
        MachineError: It cannot be done without a risk for somebody's data.
    """
    current = mounted_device(target)
    if current is not None:
        if probe_device(current).uuid != uuid:
            raise MachineError("{} is mounted from {}, not from ours".format(target, current))
        grow(current, mounted=True)
        return "{} is mounted already".format(current)
    probes = [probe_device(device) for device in wait_for_devices(candidates)]
    probe = choose_device(probes, uuid)
    action = decide(probe, uuid=uuid, first=first)
    if action is Action.FORMAT:
        _say("making the file system on {}".format(probe.device))
        make_file_system(probe.device, uuid)
    check_file_system(probe.device)
    grow(probe.device, mounted=False)
    mount(probe.device, target)
    return "mounted {} ({})".format(probe.device, uuid)


def _knows_orphan_file() -> bool:
    # Switching off an unknown feature is an error, and 1.47 has it on by default.
    done = _run(["mkfs.ext4", "-V"])
    return mke2fs_version(done.stdout + done.stderr) >= (1, 47)


def mke2fs_version(text: str) -> Tuple[int, int]:
    """Return the version that `mkfs.ext4 -V` tells.

    Raises:
        MachineError: It tells none.
    """
    found = re.search(r"mke2fs (\d+)\.(\d+)", text)
    if found is None:
        raise MachineError("mkfs.ext4 does not tell its version")
    return int(found.group(1)), int(found.group(2))


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _readable(device: str) -> bool:
    try:
        with open(device, "rb") as stream:
            return len(stream.read(4096)) == 4096
    except OSError:
        return False


def _flush(device: str) -> None:
    descriptor = os.open(device, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run(command: List[str]) -> subprocess.CompletedProcess[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
        env={"PATH": path, "LC_ALL": "C"},
    )


def _must(command: List[str]) -> str:
    done = _run(command)
    if done.returncode != 0:
        raise MachineError(
            "{} ended with {}: {}".format(command[0], done.returncode, done.stderr.strip())
        )
    return done.stdout


def _say(text: str) -> None:
    print("mlflow-data-disk: {}".format(text), file=sys.stderr, flush=True)


def main(arguments: Optional[List[str]] = None) -> int:
    """Find, check and mount the data disk; the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--environment", type=Path, default=Path("/etc/mlflow-bakery/environment.json")
    )
    parser.add_argument("--target", type=Path, default=Path("/var/lib/mlflow-data"))
    parser.add_argument("--device", action="append", help="look here instead of the fixed list")
    options = parser.parse_args(arguments)
    try:
        environment = choose_environment(read_environment(options.environment), None)
        done = attach(
            uuid=environment.data_disk_uuid,
            first=environment.first,
            target=options.target,
            candidates=options.device or DEVICES,
        )
    except MachineError as error:
        _say("REFUSED: {}".format(error))
        return 1
    _say(done)
    return 0
