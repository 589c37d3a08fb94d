"""The process that owns a running machine: its disk locks, loops, mounts and systemd-nspawn.

Works in mount and process namespaces of its own, so that whatever ends it, even SIGKILL, ends the
machine and takes the mounts and with them the loop devices away.
"""

import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bakery.disk import attached, root_partition
from bakery.drivers.nspawn import started_mark
from bakery.errors import BakeryError
from bakery.process import write_down
from bakery.run import environment, run

_DATA_DEVICE = "/dev/mlflow-data"
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")
_CLONE_NEWNS, _CLONE_NEWPID, _PR_SET_PDEATHSIG = 0x00020000, 0x20000000, 1


def main(job: Path) -> int:
    """Run the machine that a job file describes, until it powers off.

    The machine lives in a process namespace whose first process is our child: nspawn's own child
    would outlive it, but nothing outlives the first process of a namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID) != 0:
        print(f"supervisor: failed: {os.strerror(ctypes.get_errno())}", flush=True)
        return 1
    group = _step_aside()
    inner = 0
    _on_signals(lambda *_: os.kill(inner, signal.SIGTERM) if inner else os._exit(1))
    # Who owns the machine, before anything is made that one may want to end.
    write_down(job.parent / "supervisor.pid", os.getpid())
    inner = os.fork()
    if inner == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os._exit(_supervise(job, group))
    return os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])


def _on_signals(handler: Callable[..., object]) -> None:
    """Handle every signal that asks this process to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def _supervise(job: Path, group: Path | None) -> int:
    """Be the first process of the machine's namespace: prepare, run nspawn, pass signals on."""
    _on_signals(lambda *_: os._exit(1))
    spec = {key: value and Path(value) for key, value in json.loads(job.read_text()).items()}
    held: list[int] = []  # locks and loops, open as long as the machine runs
    try:
        run(["mount", "--make-rprivate", "/"])
        run(["mount", "-t", "proc", "proc", "/proc"])
        words = [*_inside(group), *_prepare(spec, held)]
    except (BakeryError, OSError) as error:
        print(f"supervisor: failed: {error} {getattr(error, 'tail', '')}", flush=True)
        return 1
    started_mark(job.parent).touch()
    machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment(), pass_fds=held)
    # nspawn turns SIGTERM into an orderly shutdown of the machine.
    _on_signals(lambda *_: machine.terminate())
    return machine.wait()


def _step_aside() -> Path | None:
    """Leave our service's control group to nspawn, and return it; None where we are no service.

    A group with processes in it cannot hand its controllers on: the machine's systemd would get
    none, and no limit of a container would hold.
    """
    groups = Path("/proc/self/cgroup").read_text(encoding="ascii")
    found = re.search(r"^0::/(.*/mlflow-bakery-[^/]*\.service)$", groups, re.MULTILINE)
    if found is None or not _UNIFIED.exists():
        return None
    group = Path("/sys/fs/cgroup") / found[1]
    keeper = group / "keeper"
    keeper.mkdir(exist_ok=True)
    (keeper / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    return group


def _inside(group: Path | None) -> list[str]:
    """Return the words before a command that start it in a control group."""
    if group is None:
        return []
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(group)]


def _prepare(spec: dict[str, Path], held: list[int]) -> list[str]:
    folder = spec["folder"]
    root = folder / "root"
    root.mkdir(exist_ok=True)
    held.append(_lock(spec["disk"]))
    with attached(spec["disk"], root_partition(spec["disk"])) as device:
        run(["mount", "-o", "noatime", device, root])  # it goes with the mount
    _unify_cgroups()
    _set_resolver(root)
    _plant_seed(root, spec["folder"] / "seed")
    # A killed machine's link may still be on its way out.
    run(["ip", "link", "delete", f"vb-{spec['name']}"], check=False)
    return [*_nspawn(spec, root), *_data_disk(spec, held)]


def _nspawn(spec: dict[str, Path], root: Path) -> list[str]:
    return [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
        f"--directory={root}", f"--machine={spec['name']}",
        # All but the clock: nspawn has none of its own and `date -s` would set this host's.
        "--capability=all", "--drop-capability=CAP_SYS_TIME",
        "--system-call-filter=@keyring bpf @known",
        f"--network-bridge={spec['bridge']}", "--link-journal=no", "--console=pipe",
        "--resolv-conf=off", "--timezone=off",
    ]  # fmt: skip


def _data_disk(spec: dict[str, Path], held: list[int]) -> list[str]:
    if not spec["data_disk"]:
        return []
    held.append(_lock(spec["data_disk"]))
    device = _attach(spec["data_disk"])
    held.append(os.open(device, os.O_RDWR))
    run(["losetup", "--detach", device])  # lazily: it goes when nobody has it open
    return [f"--bind={device}:{_DATA_DEVICE}"]


def _attach(disk: Path) -> str:
    return run(["losetup", "--find", "--show", disk]).stdout.strip()


def _lock(disk: Path) -> int:
    """Hold a disk file for as long as this process lives: nothing else fences a loop device."""
    file = os.open(disk, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BakeryError(f"{disk} is in use by another machine") from error
    return file


def _unify_cgroups() -> None:
    """Show nspawn a unified cgroup hierarchy on hosts that have a hybrid one."""
    if _UNIFIED.exists():
        return
    run(["umount", "--recursive", "/sys/fs/cgroup"], check=False)
    run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])


def _set_resolver(root: Path) -> None:
    """Give the machine the host's name servers, unless systemd-resolved serves it."""
    target = root / "etc/resolv.conf"
    if target.is_symlink() and (root / "lib/systemd/systemd-resolved").exists():
        return
    target.unlink(missing_ok=True)
    shutil.copyfile(_RESOLVED if _RESOLVED.exists() else Path("/etc/resolv.conf"), target)


def _plant_seed(root: Path, seed: Path) -> None:
    """Put the seed where cloud-init looks; on the disk, so that a bake can remove it."""
    target = root / "var/lib/cloud/seed/nocloud"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(seed, target)
    target.chmod(0o700)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
