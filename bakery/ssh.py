"""SSH to a machine: keys, its known host key, commands, waiting until it answers."""

import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from bakery.errors import BakeryError, InputError
from bakery.run import run
from bakery.state import write_atomically
from bakery.targets.base import SshAccess


def make_key(path: Path) -> str:
    """Make an ed25519 key pair unless it is there; return the public half."""
    public = path.with_suffix(".pub")
    if not (path.exists() and public.exists()):
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        write_atomically(public, f"{line.decode()} mlflow-bakery\n", mode=0o644)
        write_atomically(path, private.decode())
    return public.read_text(encoding="ascii").strip()


def command(
    access: SshAccess, words: list[str], *, stdin: str | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in the machine; the caller looks at its code (255: no connection)."""
    argv = ["ssh", *access.options, "-p", str(access.port), f"{access.user}@{access.host}", "--"]
    return run([*argv, shlex.join(words)], stdin=stdin, check=False, timeout=timeout)


def answers(access: SshAccess, host_key: Callable[[], str | None]) -> bool:
    """Return whether one can log in, trusting only the host key read from the machine's disk."""
    if not _port_open(access):
        return False
    key = host_key()
    if key is None:
        return False
    kind, value = key.split()[:2]
    write_atomically(access.known_hosts, f"{access.host} {kind} {value}\n")
    try:
        return command(access, ["true"], timeout=15).returncode == 0
    except InputError:
        raise
    except BakeryError:  # too slow while it boots: ask again
        return False


def wait(ready: Callable[[], bool], *, seconds: float, pause: float = 0.2) -> bool:
    """Ask again and again until something is so; return whether it was within `seconds`."""
    retrying = Retrying(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(pause),
        retry=retry_if_result(lambda result: not result),
    )
    try:
        return bool(retrying(ready))
    except RetryError:
        return False


def _port_open(access: SshAccess) -> bool:
    try:
        with socket.create_connection((access.host, access.port), timeout=1):
            return True
    except OSError:
        return False
