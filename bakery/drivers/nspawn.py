"""Machines at native speed where no hypervisor runs: systemd-nspawn boots the disk's root.

Not a security boundary: the machine shares this host's kernel.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bakery import signals
from bakery.drivers import nspawn_disks
from bakery.drivers.base import MachineSpec
from bakery.errors import BakeryError, InputError
from bakery.process import alive
from bakery.run import environment, need, run, tail

_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "sfdisk": "fdisk",
    "resize2fs": "e2fsprogs",
    "ip": "iproute2",
}
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key.pub"
_START_SECONDS = 30
_KILLED_SECONDS = 20
_ON_ITS_WAY_SECONDS = 2


class Nspawn:
    """Runs each machine under a supervisor process with a mount namespace of its own."""

    def check(self) -> None:
        """Refuse without root or without the tools.

        Raises:
            InputError: With the command to run.
        """
        if os.geteuid() != 0:
            raise InputError(
                "the nspawn driver needs root: it mounts disks and makes links",
                hint="run it with sudo",
            )
        for tool, package in _TOOLS.items():
            need(tool, package=package, why="it runs the machine")

    def start(self, spec: MachineSpec) -> None:
        """Boot a machine from its disk.

        Raises:
            BakeryError: The machine ended at once; the console's tail says why.
        """
        if self.running(spec):
            return
        spec.folder.mkdir(parents=True, exist_ok=True)
        spec.console.write_text("", encoding="utf-8")
        job = spec.folder / "machine.json"
        job.write_text(json.dumps(spec.as_json()), encoding="utf-8")
        _pid_file(spec).unlink(missing_ok=True)
        started_mark(spec.folder).unlink(missing_ok=True)
        try:
            _launch(spec, job)
            _check_started(spec)
        except BaseException:
            # Interrupted between the launch and the supervisor's first line: it is on its way.
            with signals.held_back():
                _wait(lambda: _process(spec) is not None, _ON_ITS_WAY_SECONDS, spec)
                self.stop(spec, seconds=0)
            raise

    def stop(self, spec: MachineSpec, *, seconds: float = 60) -> None:
        """Shut a machine down; its disks are free when this returns."""
        process = _process(spec)
        if process is not None:
            _signal(process, signal.SIGTERM)
            _wait_gone(spec, seconds)
        survivor = _process(spec)
        if survivor is not None:
            _signal(survivor, signal.SIGKILL)
        _wait_gone(spec, _KILLED_SECONDS)
        _pid_file(spec).unlink(missing_ok=True)

    def running(self, spec: MachineSpec) -> bool:
        """Return whether the machine's supervisor lives, or something of it still has its disk."""
        return _process(spec) is not None or _locked(spec.disk)

    def attach(self, spec: MachineSpec, disk: Path) -> None:
        """Ask the machine's supervisor to lock a data disk and show it to the machine.

        Raises:
            BakeryError: Another machine has it, or this one does not run.
        """
        nspawn_disks.ask(spec.folder, "attach", disk)

    def detach(self, spec: MachineSpec) -> None:
        """Ask the machine's supervisor to let the data disk go.

        Raises:
            BakeryError: The machine still has it mounted.
        """
        if self.running(spec):
            nspawn_disks.ask(spec.folder, "detach")

    def host_key(self, spec: MachineSpec) -> str | None:
        """Return the machine's ed25519 host key, seen through the supervisor's mounts."""
        process = _process(spec)
        if process is None:
            return None
        try:
            inside = Path(f"/proc/{process}/root{spec.folder / 'root'}") / _HOST_KEY
            key = inside.read_text(encoding="ascii").strip()
        except OSError:
            return None
        return key or None


def _launch(spec: MachineSpec, job: Path) -> None:
    """Start the supervisor so that it outlives this process and its terminal."""
    words = [sys.executable, "-m", "bakery.drivers.nspawn_supervisor", str(job)]
    here = str(Path(__file__).parents[2])
    if Path("/run/systemd/system").is_dir():
        unit = f"mlflow-bakery-{spec.name}"
        run(["systemctl", "reset-failed", unit], check=False)
        # Delegate: the machine's systemd manages the cgroups below its own service. A service of
        # its own, since a login scope would end with the login.
        run(
            [
                "systemd-run", "--quiet", "--collect", f"--unit={unit}",
                "--property=Delegate=yes", "--property=KillMode=mixed",
                f"--property=StandardOutput=append:{spec.console}",
                f"--property=StandardError=append:{spec.console}",
                f"--setenv=PYTHONPATH={here}", *words,
            ]
        )  # fmt: skip
        return
    with spec.console.open("ab") as console:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=environment({"PYTHONPATH": here}),
            start_new_session=True,
            cwd="/",
        )


def _check_started(spec: MachineSpec) -> None:
    if not _wait(started_mark(spec.folder).exists, _START_SECONDS, spec):
        raise BakeryError(
            f"the machine {spec.name} did not start", log=spec.console, tail=tail(spec.console)
        )


def started_mark(folder: Path) -> Path:
    """Return the file that a supervisor makes when all is ready for its machine."""
    return folder / "started"


def _wait(ready: Callable[[], bool], seconds: float, spec: MachineSpec) -> bool:
    """Wait until something is so; not when the supervisor says that it failed."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline or "supervisor: failed" in tail(spec.console):
            return False
        time.sleep(0.02)
    return True


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(process, number)


def _wait_gone(spec: MachineSpec, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (_process(spec) or _locked(spec.disk)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _locked(disk: Path) -> bool:
    try:
        file = os.open(disk, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _pid_file(spec: MachineSpec) -> Path:
    return spec.folder / "supervisor.pid"


def _process(spec: MachineSpec) -> int | None:
    return alive(_pid_file(spec))
