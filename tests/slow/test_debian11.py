"""The machine's scripts and units on Debian 11, the nearest obtainable relative of Ubuntu 20.04.

systemd 247, e2fsprogs 1.46, Python 3.9: no machine is booted, each command runs in a private mount
and process namespace over a copy of one cached root.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bakery.debian import Mirrors, bootstrap, host_mirrors
from tests.unit.machine.samples import DUMP, IMAGES, ROOT, UUID, environment_text

# As root, like every machine here: without it they fail, and say so.
pytestmark = pytest.mark.machine

SUITE = "bullseye"
PACKAGES = [
    "systemd", "e2fsprogs", "xfsprogs", "dosfstools", "fdisk", "util-linux", "mount",
    "python3-minimal", "libpython3-stdlib",
]  # fmt: skip
SYSTEMD = "etc/systemd/system"
UNITS = sorted(f"/{SYSTEMD}/{path.name}" for path in (ROOT / "packer/files" / SYSTEMD).iterdir())
GUARD = "/usr/lib/mlflow-bakery/data-disk-guard"
SIZE = 64 << 20
# Everything that the command mounts ends with it.
ENTER = """
mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
mount -t sysfs sysfs "$0/sys" && mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup" &&
mount -o remount,bind,ro "$0/sys/fs/cgroup" &&
exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
"""


class Machine:
    """A Debian 11 root with the image's files in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command in the root; killing it kills all that it started."""
        return subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", ENTER, str(self.root), *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in the root and return its code and output."""
        with self.start(command) as process:
            output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def must(self, *command: str) -> str:
        """Run a command that has to succeed."""
        code, output = self.run(*command)
        assert code == 0, output
        return output

    def guard(self, device: str, *, first: bool, then: str = "true") -> tuple[int, str]:
        """Run the guard on a disk, and a shell command while the disk is mounted."""
        environment = environment_text(data_disk={"uuid": UUID, "first": first})
        (self.root / "environment.json").write_text(environment)
        command = f"{GUARD} --environment /environment.json --device {device} && {then}"
        return self.run("sh", "-c", command)


@pytest.fixture(scope="module")
def cached_root(state: Path) -> Path:
    """A plain Debian 11, made once; named after what it is made of."""
    digest = hashlib.sha256(json.dumps([SUITE, PACKAGES]).encode()).hexdigest()[:12]
    cache = state.absolute() / "cache"
    target = cache / f"debian-11-test-{digest}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        bootstrap(
            SUITE,
            unfinished,
            PACKAGES,
            mirrors=Mirrors(host_mirrors().main),
            log=target.with_suffix(".log"),
            # Nobody signs it anew: it is not supported any more.
            options=['--aptopt=Acquire::Check-Valid-Until "false"'],
        )
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


@pytest.fixture(scope="module")
def machine(cached_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("debian11") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(cached_root), str(root)], check=True)
    files = ROOT / "packer/files"
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{files}/.", str(root)], check=True)
    share = root / "usr/share/mlflow-bakery"
    shutil.copytree(ROOT / "compose", share / "compose")
    (share / "images.json").write_text(json.dumps(IMAGES))
    (root / "etc/mlflow-bakery").mkdir()
    _stand_in_for_docker(root, "exit 0")
    yield Machine(root)
    shutil.rmtree(root)


def _stand_in_for_docker(root: Path, script: str) -> None:
    docker = root / "usr/bin/docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    unit = root / SYSTEMD / "docker.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/docker\n")


@contextmanager
def disk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Lend a loop device over an empty file."""
    file = folder / "disk.raw"
    with file.open("wb") as stream:
        stream.truncate(SIZE)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], check=True, stdout=subprocess.PIPE, text=True
    )
    device = done.stdout.strip()
    try:
        yield device, file
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        file.unlink()


def checksum(file: Path) -> str:
    """Hash what is on a disk, after what the kernel still holds has been written."""
    os.sync()
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_it_is_the_old_one(machine: Machine) -> None:
    assert "systemd 247" in machine.must("systemctl", "--version")
    assert "1.46" in machine.must("mkfs.ext4", "-V")
    assert "Python 3.9" in machine.must("python3", "--version")


def test_systemd_accepts_the_units(machine: Machine) -> None:
    assert machine.must("systemd-analyze", "verify", "--man=no", *UNITS) == ""


def test_systemd_would_have_complained(machine: Machine) -> None:
    unit = machine.root / SYSTEMD / "broken.service"
    text = (machine.root / SYSTEMD / "mlflow.service").read_text()
    unit.write_text(text.replace("RestartSec=", "RestartSecs="))
    _, output = machine.run("systemd-analyze", "verify", "--man=no", f"/{SYSTEMD}/{unit.name}")
    unit.unlink()
    assert "RestartSecs" in output


def test_a_blank_first_disk_is_made_once_and_kept(machine: Machine, tmp_path: Path) -> None:
    with disk(tmp_path) as (device, _):
        keep = "echo kept > /var/lib/mlflow-data/proof"
        code, output = machine.guard(device, first=True, then=keep)
        assert code == 0, output
        assert "making the file system" in output
        for first in (True, False):
            code, output = machine.guard(device, first=first, then="cat /var/lib/mlflow-data/proof")
            assert code == 0, output
            assert "kept" in output
            assert "making" not in output
        assert UUID in machine.must("blkid", "-p", device)
        assert "clean" in machine.must("e2fsck", "-n", device)


def test_what_a_new_mkfs_makes_the_old_fsck_reads(machine: Machine, tmp_path: Path) -> None:
    """The guard of this host's own e2fsprogs, which may be of a newer release."""
    with disk(tmp_path) as (device, _):
        program = (
            "import sys; sys.dont_write_bytecode = True\n"
            "from mlflow_bakery_machine.guard import make_file_system\n"
            f"make_file_system({device!r}, {UUID!r})"
        )
        path = str(ROOT / "packer/files/usr/lib/mlflow-bakery")
        subprocess.run(
            ["python3", "-c", program], check=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert "clean" in machine.must("e2fsck", "-n", device)
        code, output = machine.guard(device, first=False)
        assert code == 0, output


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        "mkfs.ext4 -q -F {}",
        "mkfs.ext4 -q -F -L mlflow-data {}",
        "mkfs.xfs -q -f {}",
        "mkfs.vfat {}",
        "mkswap {}",
        "echo ',,L' | sfdisk --quiet --no-reread {}",
        "mkfs.xfs -q -f -m uuid=" + UUID + " {}",
    ],
    ids=["ext4", "label", "xfs", "vfat", "swap", "partitions", "xfs-with-our-uuid"],
)
def test_a_foreign_disk_is_refused_untouched(
    machine: Machine, tmp_path: Path, make: str, first: bool
) -> None:
    with disk(tmp_path) as (device, file):
        machine.must("sh", "-c", make.format(device))
        before = checksum(file)
        code, output = machine.guard(device, first=first)
        assert code == 1, output
        assert "REFUSED" in output
        assert "not touched" in output
        assert checksum(file) == before


def test_a_blank_disk_in_place_of_data_is_refused_untouched(
    machine: Machine, tmp_path: Path
) -> None:
    with disk(tmp_path) as (device, file):
        before = checksum(file)
        code, output = machine.guard(device, first=False)
        assert code == 1
        assert "wrong disk" in output
        assert checksum(file) == before


def test_a_kill_while_it_is_made_heals(machine: Machine, tmp_path: Path) -> None:
    environment = environment_text(data_disk={"uuid": UUID, "first": True})
    (machine.root / "environment.json").write_text(environment)
    command = [GUARD, "--environment", "/environment.json", "--device"]
    with disk(tmp_path) as (device, file):
        for delay in (0.1, 0.15, 0.2, 0.25, 0.3):
            with file.open("r+b") as stream:
                stream.truncate(0)
                stream.truncate(SIZE)
            subprocess.run(["blockdev", "--flushbufs", device], check=True)
            with machine.start([*command, device]) as process:
                time.sleep(delay)
                process.kill()
            code, output = machine.guard(device, first=True)
            assert code == 0, output


def test_an_unfinished_disk_is_made_anew_only_the_first_time(
    machine: Machine, tmp_path: Path
) -> None:
    with disk(tmp_path) as (device, file):
        machine.must("mkfs.ext4", "-q", "-F", "-U", UUID, "-L", "mlflow-half", device)
        before = checksum(file)
        code, output = machine.guard(device, first=False)
        assert code == 1
        assert "never made to the end" in output
        assert checksum(file) == before
        code, output = machine.guard(device, first=True)
        assert code == 0, output


def test_the_disk_may_come_later(machine: Machine, tmp_path: Path) -> None:
    environment = environment_text(data_disk={"uuid": UUID, "first": True})
    (machine.root / "environment.json").write_text(environment)
    link = machine.root / "late"
    link.unlink(missing_ok=True)
    command = [GUARD, "--environment", "/environment.json", "--device", "/late"]
    with disk(tmp_path) as (device, _), machine.start(command) as process:
        time.sleep(1)
        assert process.poll() is None
        link.symlink_to(device)
        output, _ = process.communicate(timeout=20)
    link.unlink()
    assert process.returncode == 0, output
    assert "waiting for the data disk" in output


def test_a_start_is_prepared(machine: Machine) -> None:
    root = machine.root
    (root / "etc/mlflow-bakery/environment.json").write_text(environment_text())
    assert "prepared mlflow" in machine.must("/usr/lib/mlflow-bakery/prepare")
    for path, owner in (("mysql/init.sql", 999), ("mlflow/storage", 1001), ("traefik", 1002)):
        found = (root / "run/mlflow-bakery" / path).stat()
        assert found.st_uid == owner
        assert found.st_mode & 0o077 == 0
    assert (root / "var/lib/mlflow-data/mysql").stat().st_uid == 999
    assert (root / "run/mlflow-bakery").stat().st_mode & 0o777 == 0o700


def test_readiness_is_told_from_failure(machine: Machine) -> None:
    healthy = json.dumps({"Status": "running", "Health": {"Status": "healthy"}})
    lines = [f"/mlflow-{name}-1 {healthy}" for name in ("mysql", "mlflow", "traefik")]
    for code in (0, 1):
        ended = json.dumps({"Status": "exited", "ExitCode": code})
        answer = "\n".join([*lines, f"/mlflow-migrate-1 {ended}"])
        _stand_in_for_docker(machine.root, f"cat <<'END'\n{answer}\nEND")
        found, output = machine.run("/usr/lib/mlflow-bakery/wait-ready", "--timeout", "5")
        assert found == code, output


def test_a_backup_is_made_and_listed(machine: Machine) -> None:
    root = machine.root
    (root / "var/lib/mlflow-data/environment.json").write_text(environment_text())
    schema = {"mlflow": "3.17.2", "revision": "dc11669786a5", "ancestors": []}
    (root / "usr/share/mlflow-bakery/schema.json").write_text(json.dumps(schema))
    (root / "dump").write_bytes(b"".join(DUMP))
    _stand_in_for_docker(root, "case $* in *mysqldump*) cat /dump ;; *) echo [] ;; esac")
    tool = "/usr/lib/mlflow-bakery/backup"
    made = json.loads(machine.must(tool, "make"))
    assert made["rows"]["tags"] == 6
    assert json.loads(machine.must(tool, "last")) == made
    assert [one["name"] for one in json.loads(machine.must(tool, "list"))["backups"]] == [
        made["name"]
    ]
    code, output = machine.run(tool, "load", "no-such-backup")
    assert (code, output[:8]) == (2, "REFUSED:")


def test_the_shell_of_the_old_system_reads_the_scripts(machine: Machine) -> None:
    for script in sorted((ROOT / "packer/provision").glob("*.sh")):
        shutil.copy(script, machine.root / "script.sh")
        assert machine.must("bash", "-n", "/script.sh") == ""
