"""Virtual machines for tests that need many: a folder, some scripts and a small HTTPS server each.

A stand-in goes through what a real one does: it reads its custom data once, waits in standby until
it has a data disk and is activated, formats only an empty disk of a first deployment, serves only
at the public address that leads to it, and keeps all that is lasting on the data disk.
"""

import base64
import json
import os
import re
import shutil
import threading
import time
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bakery import ssh, tls
from bakery.render import PROJECT
from tests.azure import sshd, standin_tools
from tests.azure.loopback import Neighbourhood
from tests.azure.machines import Door, Machine, Output
from tests.azure.standin_server import Site, serving, write_counts
from tests.azure.world import Resource

if TYPE_CHECKING:
    import subprocess

IMAGE_TAG = "mlflow-bakery-image"
_NODES = "dev/disk/azure/data/by-lun"
_GUARD = PROJECT / "packer/files/usr/lib/mlflow-bakery/mlflow_bakery_machine/guard.py"
_LUN = re.findall(r"/dev/disk/azure/data/by-lun/(\d+)", _GUARD.read_text(encoding="utf-8"))[0]
"""Where the machine's own guard looks for its data disk."""


class StandIns:
    """All stand-ins of one fake."""

    slow = False

    def __init__(self, folder: Path, addresses: Neighbourhood) -> None:
        """Begin without any; `folder` holds their roots and disks."""
        self._folder = folder.absolute()
        self._addresses = addresses
        self._sites: dict[str, ExitStack] = {}
        self._serving: dict[str, tuple[str, str]] = {}
        self._lock = threading.RLock()
        self.sshd: sshd.Program | None = None
        """The SSH server's program; None: no machine has one, whatever its security group says."""
        self._servers: dict[str, tuple[str, subprocess.Popen[str]]] = {}
        self._known: dict[str, Machine] = {}
        self.faults: dict[str, str] = {}
        """Images (by their tag) whose machines are `deaf` (no command is answered), `broken` (the
        database does not answer) or migrate the data (`migrates`)."""

    @property
    def tls(self) -> Path:
        """The folder of the authority that signs their certificates."""
        return self._folder / "tls"

    @property
    def ca_file(self) -> Path:
        if not tls.ca_file(self.tls).exists():
            self.tls.mkdir(parents=True, exist_ok=True)
            tls.local_certificate(self.tls, "authority.test", "127.0.0.1")
        return tls.ca_file(self.tls)

    # -- what Azure does to them -------------------------------------------------------------------

    def allot_address(self) -> str | None:
        return self._addresses.address()

    def start(self, machine: Machine) -> None:
        with self._lock:
            root = self._root(machine.id)
            if not root.exists():
                standin_tools.install(root)
                _bring_environment(machine.custom_data, root)
                ssh.make_key(root / "etc/ssh/ssh_host_ed25519_key")
            (root / "run/on").touch()
            if (root / "etc/mlflow-bakery/admitted").exists():
                (root / "run/wanted").touch()
            self._say(machine, f"{machine.hostname} login:")
            self.changed(machine)

    def stop(self, machine: Machine) -> None:
        with self._lock:
            root = self._root(machine.id)
            for name in ("run/on", "run/wanted", "var/lib/mlflow-data"):
                (root / name).unlink(missing_ok=True)
            self._stop_serving(machine.id)
            self._stop_ssh(machine.id)

    def delete(self, machine: Machine) -> None:
        with self._lock:
            self._stop_serving(machine.id)
            self._stop_ssh(machine.id)
            shutil.rmtree(self._root(machine.id), ignore_errors=True)

    def changed(self, machine: Machine) -> None:
        with self._lock:
            self._known[machine.id] = machine
            root = self._root(machine.id)
            if not (root / "run/on").exists():
                return
            _show_disks(root, {lun: self._disk(disk) for lun, disk in machine.disks.items()})
            self._settle(machine, root)
            self._listen(machine, root)

    def run(self, machine: Machine, script: str, parameters: dict[str, str]) -> Output:
        if self._fault(machine) == "deaf":
            return Output(1, "", "the agent does not answer")
        if not machine.custom_data:
            # A bake's: what it waits for is the last line of its check.
            return Output(
                0, "the database: nothing\n" if self._fault(machine) else "candidate ok\n"
            )
        done = standin_tools.execute(self._root(machine.id), script, parameters)
        self.changed(machine)
        return done

    def console(self, machine: Machine) -> str:
        log = self._root(machine.id) / "console.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def disk(self, disk: Resource, source: Resource | None) -> None:
        target = self._disk(disk["id"])
        shutil.rmtree(target, ignore_errors=True)
        if source is None:
            target.mkdir(parents=True)
        else:
            shutil.copytree(self._disk(source["id"]), target)

    def delete_disk(self, disk_id: str) -> None:
        shutil.rmtree(self._disk(disk_id), ignore_errors=True)

    def close(self) -> None:
        """End them all."""
        with self._lock:
            for key in list(self._sites):
                self._stop_serving(key)
            for key in list(self._servers):
                self._stop_ssh(key)

    # -- what they do themselves -------------------------------------------------------------------

    def _settle(self, machine: Machine, root: Path) -> None:
        """Mount and serve, if a machine is wanted to and can."""
        data = root / "var/lib/mlflow-data"
        if not data.exists():
            data.unlink(missing_ok=True)
        if (root / "run/wanted").exists() and not data.exists():
            self._mount(machine, root, data)
        if not (data.exists() and machine.address):
            self._stop_serving(machine.id)
            return
        hostname = _environment(root, data)["hostname"]
        wanted = (machine.address, hostname)
        if self._serving.get(machine.id) != wanted:
            self._stop_serving(machine.id)
            self._serve(machine, root, data, hostname)
            self._serving[machine.id] = wanted

    def _mount(self, machine: Machine, root: Path, data: Path) -> None:
        """Be the guard of the data disk."""
        device = root / _NODES / _LUN
        if not device.exists():
            return
        brought = json.loads((root / "etc/mlflow-bakery/environment.json").read_text())
        identity, wanted = device / "uuid", brought["data_disk"]
        if not identity.exists():
            if not wanted["first"]:
                self._say(machine, "REFUSED: the data disk is empty, but this deployment has data")
                return
            identity.write_text(wanted["uuid"])
        if identity.read_text() != wanted["uuid"]:
            self._say(machine, f"REFUSED: the data disk is {identity.read_text()}")
            return
        data.symlink_to(device.resolve())
        if self._fault(machine) == "migrates":
            (data / "state").mkdir(exist_ok=True)
            (data / "state/migration.json").write_text(json.dumps({"by": machine.id}))
        write_counts(data)
        kept = data / "environment.json"
        kept.write_text(json.dumps(_environment(root, data)))
        kept.chmod(0o600)

    def _serve(self, machine: Machine, root: Path, data: Path, hostname: str) -> None:
        pem = self._certificate(data, hostname, machine.address)

        def site() -> Site:
            admitted = (root / "etc/mlflow-bakery/admitted").exists()
            broken = self._fault(machine) in {"broken", "migrates"}
            return Site(_environment(root, data), data.resolve(), admitted, broken)

        stack = ExitStack()
        stack.enter_context(serving(machine.address, site, pem))
        self._sites[machine.id] = stack

    def _certificate(self, data: Path, hostname: str, address: str) -> Path:
        """Return the certificate on the data disk, made where there is none for this name."""
        pem, named = data.resolve() / "certificate.pem", data / "certificate-of"
        if not pem.exists() or named.read_text() != hostname:
            _ = self.ca_file
            made = tls.local_certificate(self.tls, hostname, address)
            pem.write_text(made.chain + made.key)
            named.write_text(hostname)
        return pem

    def _stop_serving(self, key: str) -> None:
        self._serving.pop(key, None)
        stack = self._sites.pop(key, None)
        if stack is not None:
            stack.close()

    def _listen(self, machine: Machine, root: Path) -> None:
        """Have an SSH server at the public address while the security group lets this host in."""
        wanted = machine.address if self.sshd and lets_in(machine.doors, "127.0.0.1", 22) else ""
        if self._servers.get(machine.id, ("", None))[0] == wanted:
            return
        self._stop_ssh(machine.id)
        if self.sshd is not None and wanted:
            process = self.sshd.start(root, wanted, machine.user, machine.keys)
            self._servers[machine.id] = (wanted, process)
            watch = threading.Thread(target=self._watch, args=(machine.id, process), daemon=True)
            watch.start()

    def restart_ssh(self, machine: Machine) -> None:
        """Let another SSH server take the place of a machine's, with a host key of its own."""
        with self._lock:
            self._stop_ssh(machine.id)
            root = self._root(machine.id)
            for half in root.glob("etc/ssh/ssh_host_ed25519_key*"):
                half.unlink()
            ssh.make_key(root / "etc/ssh/ssh_host_ed25519_key")
            self._listen(machine, root)

    def _watch(self, key: str, process: "subprocess.Popen[str]") -> None:
        """Look what has become of each command that was given over SSH."""
        asked, seen = self._root(key) / "run/asked", 0
        while process.poll() is None:
            time.sleep(0.02)
            size = asked.stat().st_size if asked.exists() else 0
            if size != seen:
                seen = size
                with self._lock:
                    # Not of one that was stopped meanwhile: its server would start again.
                    if self._servers.get(key, ("", None))[1] is process:
                        self.changed(self._known[key])

    def _stop_ssh(self, key: str) -> None:
        found = self._servers.pop(key, None)
        if found is not None:
            sshd.stop(found[1])

    def _fault(self, machine: Machine) -> str:
        tags = machine.image.get("tags") or {}
        return self.faults.get(tags.get(IMAGE_TAG, ""), "")

    def _say(self, machine: Machine, text: str) -> None:
        log = self._root(machine.id) / "console.log"
        with log.open("a", encoding="utf-8") as file:
            file.write(text + os.linesep)

    def _root(self, machine_id: str) -> Path:
        return self._folder / "machines" / _flat(machine_id)

    def _disk(self, disk_id: str) -> Path:
        return self._folder / "disks" / _flat(disk_id)


def lets_in(doors: list[Door], source: str, port: int) -> bool:
    """Return whether a security group lets a caller in at a port; the first rule counts."""
    for door in doors:
        first, _, last = door.ports.partition("-")
        here = door.ports == "*" or int(first) <= port <= int(last or first)
        from_there = door.source == "*" or ip_address(source) in ip_network(door.source)
        if here and from_there:
            return door.allowed
    return False


def _flat(resource_id: str) -> str:
    """Return a file name for an id, whatever its case."""
    parts = resource_id.lower().strip("/").split("/")
    return "-".join((parts[3], *parts[-2:]))


def _bring_environment(custom_data: bytes, root: Path) -> None:
    """Do what cloud-init does with `write_files`."""
    for file in (yaml.safe_load(custom_data) or {}).get("write_files", []):
        target = root / str(file["path"]).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(file["content"]))
        target.chmod(int(file["permissions"], 8))


def _show_disks(root: Path, disks: dict[int, Path]) -> None:
    """Let device nodes come and go as the disks do; a disk that is gone is not mounted any more."""
    folder = root / _NODES
    folder.mkdir(parents=True, exist_ok=True)
    for node in folder.iterdir():
        if disks.get(int(node.name)) != node.resolve():
            node.unlink()
    for lun, disk in disks.items():
        node = folder / str(lun)
        if not node.exists():
            node.unlink(missing_ok=True)
            node.symlink_to(disk)
    data = root / "var/lib/mlflow-data"
    if data.is_symlink() and data.resolve() not in disks.values():
        data.unlink()


def _environment(root: Path, data: Path) -> dict[str, Any]:
    """Return the environment with the higher serial: cloud-init's, or the data disk's."""
    files = (data / "environment.json", root / "etc/mlflow-bakery/environment.json")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return dict(max(found, key=lambda one: int(one["serial"])))
