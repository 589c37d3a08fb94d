"""The process that owns a running machine: its disk locks, loops, mounts and systemd-nspawn.

Works in mount and process namespaces of its own, so that whatever ends it, even SIGKILL, ends the
machine and takes the mounts and with them the loop devices away.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bakery.disk import attached, hold, root_partition
from bakery.drivers.nspawn import started_mark
from bakery.drivers.nspawn_disks import Disks
from bakery.errors import BakeryError
from bakery.process import write_down
from bakery.run import environment, run

_REBOOT = 133
"""How nspawn ends when the machine wants to boot again."""
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
    spec = {key: Path(value) for key, value in json.loads(job.read_text()).items()}
    disks = Disks(spec["folder"])
    try:
        run(["mount", "--make-rprivate", "/"])
        run(["mount", "-t", "proc", "proc", "/proc"])
        lock = hold(spec["disk"])
        words = _prepare(spec, disks)
        own = None if group else _own_group(spec["name"].name)
        words = [*_inside(group or own), *words]
        disks.listen()
    except (BakeryError, OSError) as error:
        print(f"supervisor: failed: {error} {getattr(error, 'tail', '')}", flush=True)
        return 1
    started_mark(job.parent).touch()
    while (code := _run_machine(words, lock)) == _REBOOT:
        _remove_link(spec)
    if own:
        _clear(own)
    return code


def _run_machine(words: list[str], lock: int) -> int:
    """Run the machine until it ends; it keeps the lock on its own disk as long as it lives."""
    machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment(), pass_fds=[lock])
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


def _own_group(name: str) -> Path | None:
    """Return a control group for one machine where no service of the host's systemd has one.

    In the root's, machines would share the groups of equal names: each one's systemd would wait
    for the others' sessions to end. None where no group can be made.
    """
    group = _UNIFIED.parent / f"mlflow-bakery-{name}"
    _clear(group)  # what a killed one left
    with contextlib.suppress(OSError):
        group.mkdir(exist_ok=True)
        return group
    return None


def _clear(group: Path) -> None:
    """Remove a control group with all below it that is empty."""
    for one in (*sorted(group.rglob("*/"), reverse=True), group):
        with contextlib.suppress(OSError):
            one.rmdir()


def _inside(group: Path | None) -> list[str]:
    """Return the words before a command that start it in a control group."""
    if group is None:
        return []
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(group)]


def _prepare(spec: dict[str, Path], disks: Disks) -> list[str]:
    root = spec["folder"] / "root"
    root.mkdir(exist_ok=True)
    with attached(spec["disk"], root_partition(spec["disk"])) as device:
        run(["mount", "-o", "noatime", device, root])  # it goes with the mount
    _unify_cgroups()
    _set_resolver(root)
    _plant_seed(root, spec["folder"] / "seed")
    disks.make_folder()
    _remove_link(spec)
    return [*_nspawn(spec, root), disks.bind]


def _remove_link(spec: dict[str, Path]) -> None:
    """Remove a killed machine's link, which may still be on its way out."""
    run(["ip", "link", "delete", f"vb-{spec['name']}"], check=False)


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
