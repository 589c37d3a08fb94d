"""A real OpenSSH server for each stand-in machine, at its public address.

The program comes from Debian's package, taken apart and not installed: one that is installed would
have port 22 of this host. It runs in a mount namespace of its own, in which the machine's user is
known; what is asked of it runs as in the stand-in (`standin_tools`).
"""

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bakery import ssh
from bakery.azure.access import port_open
from bakery.run import run
from tests.azure.standin_tools import PATHS

_PACKAGES = ("openssh-server", "libwrap0")
_START_SECONDS = 10
_CONFIG = """
ListenAddress {address}:22
HostKey {root}/etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile {root}/etc/ssh/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
ForceCommand {root}/etc/ssh/enter
"""
_ENTER = r"""#!/bin/bash
# Runs what a client asks for in the stand-in's folder, as if that were the root.
cd {root}
export PATH={root}/bin:$PATH
inside=$(sed -E 's#(^|[^A-Za-z0-9_./-])/({paths})#\1{root}/\2#g' <<<"$SSH_ORIGINAL_COMMAND")
bash -c "$inside"
code=$?
# The stand-in looks what has become of it.
echo >>{root}/run/asked
exit $code
"""
# Ends when its input does: with the tests, however they end.
_START = """
mount --bind "$1/etc/ssh/passwd" /etc/passwd
mount -t tmpfs tmpfs /run
mkdir /run/sshd
"$2" -D -e -f "$1/etc/ssh/sshd_config" 2>"$1/sshd.log" </dev/null &
cat >/dev/null
kill $!
"""


def unusable() -> str:
    """Return why no server can run here; empty when one can."""
    if os.geteuid() != 0:
        return "not root: no SSH server can be run"
    with socket.socket() as tried:
        try:
            tried.bind(("127.77.255.1", 22))
        except OSError:
            return "port 22 of this host is taken"
    return ""


@dataclass(frozen=True)
class Program:
    """The server's program, and where its libraries are."""

    file: Path
    libraries: Path

    def start(self, root: Path, address: str, user: str, keys: list[str]) -> subprocess.Popen[str]:
        """Start a server for the machine in a folder, and wait until it listens."""
        folder = root / "etc/ssh"
        values = {"root": root, "address": address, "paths": PATHS}
        (folder / "sshd_config").write_text(_CONFIG.format(**values), encoding="utf-8")
        (folder / "enter").write_text(_ENTER.format(**values), encoding="utf-8")
        (folder / "enter").chmod(0o700)
        (folder / "authorized_keys").write_text("".join(f"{key}\n" for key in keys))
        known = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
        known = [line for line in known if line.split(":")[0] not in {user, "sshd"}]
        own = [f"{user}:x:0:0::{root}:/bin/bash", "sshd:x:65000:65534::/run/sshd:/usr/sbin/nologin"]
        (folder / "passwd").write_text("\n".join([*own, *known, ""]), encoding="utf-8")
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", _START, "sh", root, self.file],
            env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(self.libraries)},
            stdin=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        if not ssh.wait(lambda: port_open(address), seconds=_START_SECONDS, pause=0.02):
            raise RuntimeError(f"no SSH server came up: {(root / 'sshd.log').read_text()}")
        return process


def stop(process: subprocess.Popen[str]) -> None:
    """End a server; a process that was forked meanwhile may have the other end of its input."""
    if process.stdin is not None:
        process.stdin.close()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def program(cache: Path) -> Program:
    """Return the program, fetched if it is not in the cache."""
    folder = cache.absolute() / "sshd"
    found = Program(folder / "usr/sbin/sshd", folder / "usr/lib/x86_64-linux-gnu")
    if not found.file.exists():
        part = folder.with_name(f"sshd.{os.getpid()}")
        part.mkdir(parents=True)
        if run(["apt-get", "download", *_PACKAGES], cwd=part, check=False).returncode != 0:
            run(["apt-get", "update", "-qq"])
            run(["apt-get", "download", *_PACKAGES], cwd=part)
        for archive in part.glob("*.deb"):
            run(["dpkg-deb", "--extract", archive, part])
            archive.unlink()
        if (part / "lib").exists():
            shutil.copytree(part / "lib", part / "usr/lib", dirs_exist_ok=True)
        try:
            part.rename(folder)
        except OSError:  # another worker was as quick
            shutil.rmtree(part)
    return found
