"""The Docker engine that trains: here, or on another host over SSH."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakery.errors import BakeryError, InputError
from bakery.run import beside, last_lines, need, run
from bakery.targets.base import SshAccess

_SSH = re.compile(r"ssh://(?:([A-Za-z0-9_][\w.-]*)@)?([A-Za-z0-9][\w.-]*)(?::([0-9]+))?/?")
_SOCKET = "/var/run/docker.sock"
_SECONDS = 30


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers."""

    where: str
    """As the user named it."""
    host: str
    """What DOCKER_HOST says to reach it."""
    info: dict[str, Any]

    def docker(
        self, *words: str | Path, check: bool = True, timeout: float | None = None
    ) -> str | None:
        """Run Docker's client and return what it prints; None where it fails and may."""
        argv = ["docker", *words]
        done = run(argv, env={"DOCKER_HOST": self.host, **_CLASSIC}, check=check, timeout=timeout)
        return done.stdout if done.returncode == 0 else None

    def check_gpus(self) -> None:
        """Refuse an engine that cannot give GPUs to a container.

        Raises:
            InputError: NVIDIA's runtime is not there.
        """
        if "nvidia" not in (self.info.get("Runtimes") or {}):
            raise InputError(
                f"Docker at {self.where} has no NVIDIA runtime: a container would get no GPU",
                hint="on that host: install nvidia-container-toolkit, then"
                " nvidia-ctk runtime configure --runtime=docker && systemctl restart docker",
            )


# The builder that takes images which only the engine has; every engine has it, as MLflow needs it.
_CLASSIC = {"DOCKER_BUILDKIT": "0"}


@contextlib.contextmanager
def opened(where: str, ours: SshAccess | None = None) -> Iterator[Engine]:
    """Give the engine that `docker` or `ssh://USER@HOST` names; `ours` is how we log in there.

    Raises:
        InputError: Docker is not there, does not answer, or the host is not known.
    """
    need("docker", package="docker.io", why="MLflow runs containers with it")
    if where != "docker":
        with _forwarded(where, ours) as socket:
            yield _asked(where, f"unix://{socket}")
        return
    host = os.environ.get("DOCKER_HOST") or _context()
    if host.startswith("ssh://"):
        with opened(host) as engine:
            yield engine
        return
    yield _asked("this host" if host.startswith("unix://") else host, host)


def parse_ssh(where: str) -> tuple[str, str, str]:
    """Return user, host and port of `ssh://USER@HOST:PORT`; user and port may be empty.

    Raises:
        InputError: It is no such address.
    """
    found = _SSH.fullmatch(where)
    if found is None:
        raise InputError(f"--where {where}: not known", hint="local, docker or ssh://USER@HOST")
    return found[1] or "", found[2], found[3] or ""


def _context() -> str:
    """Return the address of Docker's chosen context: its Python client knows no contexts."""
    words = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    return run(words, check=False).stdout.strip() or f"unix://{_SOCKET}"


def _asked(where: str, host: str) -> Engine:
    hint = "is it running, and may you use it (group docker)?"
    try:
        words = ["docker", "info", "--format", "{{json .}}"]
        done = run(words, env={"DOCKER_HOST": host}, check=False, timeout=_SECONDS)
        info = json.loads(done.stdout or "{}")
    except InputError:
        raise
    except (BakeryError, ValueError):
        raise InputError(f"Docker at {where} does not answer", hint=hint) from None
    if not info.get("ServerVersion"):
        said = last_lines("\n".join(info.get("ServerErrors") or []) or done.stderr, 1)
        raise InputError(f"Docker at {where} does not answer: {said}", hint=hint)
    return Engine(where, host, info)


@contextlib.contextmanager
def _forwarded(where: str, ours: SshAccess | None) -> Iterator[Path]:
    """Bring the engine's socket here, over one SSH connection that ends with the block.

    Both of Docker's clients then use it as one of this host; the Python one would need an SSH
    client of its own, with its own idea of keys and known hosts.
    """
    user, host, port = parse_ssh(where)
    login = f"{user}@{host}" if user else host
    options = ours.options if ours else ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    with tempfile.TemporaryDirectory(prefix="bakery-docker-") as folder:
        socket = Path(folder) / "docker.sock"
        argv = [
            *("ssh", *options, "-T", *(["-p", port] if port else [])),
            *("-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"),
            *("-o", "ConnectTimeout=10", "-L", f"{socket}:{_SOCKET}"),
            # Ends when its input does: with us, however we end.
            *(login, "--", "echo ready; exec cat >/dev/null"),
        ]
        with beside(argv) as process:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                process.wait(timeout=_SECONDS)
                raise _refused(where, host, port, process.stderr.read() if process.stderr else "")
            yield socket


def _refused(where: str, host: str, port: str, said: str) -> InputError:
    named = f"[{host}]:{port}" if port and port != "22" else host
    if "IDENTIFICATION HAS CHANGED" in said:
        return InputError(
            f"the host key of {host} is another than the known one",
            hint=f"once you know why: ssh-keygen -R '{named}', then accept the new one",
        )
    if "host key is known" in said or "Host key verification failed" in said:
        scan = f"ssh-keyscan {f'-p {port} ' if port else ''}{host}"
        return InputError(
            f"the host key of {host} is not known",
            hint=f"compare {scan} | ssh-keygen -lf - with the host's own, then accept it:"
            f" {scan} >>~/.ssh/known_hosts",
        )
    if "Permission denied" in said:
        return InputError(f"no login at {where}", hint="ssh-copy-id, or name another user")
    return InputError(f"{where} cannot be reached: {last_lines(said, 1)}", hint="try ssh yourself")
