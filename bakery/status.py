"""Looking at a deployment without changing it."""

import re
from typing import Any

from bakery import checks, env, ssh, tls
from bakery.backup import last_backup
from bakery.errors import BakeryError
from bakery.log import warn
from bakery.settings import Settings
from bakery.state import DeploymentFolder, Event, Pending
from bakery.targets.base import Server
from bakery.targets.local import LocalTarget

_READY_SECONDS = 5
_NEARLY_FULL = 90
_DATABASE = "/var/lib/mlflow-data/mysql/data"


def status(settings: Settings) -> dict[str, Any]:
    """Return what runs.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    target = look_at(settings)
    deployment, pending = target.deployment, target.deployment.pending
    new = pending.generation if pending and target.running(pending.generation) else None
    server = target.server(new)
    running = target.running(new)
    ready = running and _is_ready(server, seconds=_READY_SECONDS)
    return {
        "name": deployment.name,
        "target": settings.target,
        "state": "ready" if ready else "not ready" if running else "stopped",
        "url": server.url,
        "hostname": server.hostname,
        "address": server.address,
        "generation": deployment.generation and deployment.generation.number,
        "image": deployment.generation and deployment.generation.image,
        "previous": deployment.previous and deployment.previous.number,
        "pending": pending and _pending(pending),
        "username": server.username,
        "ca_file": server.ca_file and str(server.ca_file),
        "certificate_expires": _expiry(target),
        "containers": _containers(server) if running else {},
        "data_disk": _data_disk(server) if running else None,
        "database": _database_size(server) if running else None,
        "last_backup": last_backup(server.ssh) if running else None,
        "training": target.training.status(),
    }


def history(settings: Settings) -> list[Event]:
    """Return what ran when, oldest first.

    Raises:
        InputError: Nothing is called by this name.
    """
    return DeploymentFolder(settings.state_dir, settings.name).deployed().history


def client_environment(settings: Settings, *, password: bool) -> dict[str, str]:
    """Return what a client of the deployment sets; a server that is not ready is told of.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    server = look_at(settings).server()
    if not _is_ready(server, seconds=3):
        warn(f"{server.url} is not ready; ./inv status tells more")
    return env.client_variables(server, password=password)


def look_at(settings: Settings) -> LocalTarget:
    """Return a deployment to look at, without its lock and its disks.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    DeploymentFolder(settings.state_dir, settings.name).deployed()
    return LocalTarget.seen(settings)


def _pending(pending: Pending) -> str:
    number = pending.generation.number
    return f"{pending.action} of generation {number}, step {pending.step} (./inv start goes on)"


def _is_ready(server: Server, *, seconds: float) -> bool:
    try:
        checks.wait_ready(server, deadline=seconds)
    except BakeryError:
        return False
    return True


def _expiry(target: LocalTarget) -> str:
    chain = target.settings.certificate or target.folder.tls / "server.pem"
    # Not there when the user's own is deployed and not named now.
    return f"{tls.expiry(chain):%Y-%m-%d}" if chain.exists() else "unknown"


def _containers(server: Server) -> dict[str, str]:
    words = ["sudo", "docker", "ps", "--all", "--format", "{{.Names}}\t{{.Status}}"]
    done = ssh.command(server.ssh, words)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[0].removeprefix("mlflow-").removesuffix("-1"): row[1] for row in rows}


def room_left(server: Server) -> tuple[int, int] | None:
    """Return how much of the data disk is used, in percent, and its size in MiB; None if unknown.

    At 90 % it warns: a full one refuses what is logged.
    """
    words = ["df", "--output=pcent,size", "--block-size=MiB", "/var/lib/mlflow-data"]
    done = ssh.command(server.ssh, words)
    found = re.findall(r"(\d+)% +(\d+)MiB", done.stdout)
    if not found:
        return None
    used, size = (int(number) for number in found[-1])
    if used >= _NEARLY_FULL:
        warn(
            f"the data disk is {used} % full; at 100 % the server refuses what is logged:"
            f" ./inv resize makes it larger, ./inv backup --list shows old backups"
        )
    return used, size


def _data_disk(server: Server) -> str:
    room = room_left(server)
    return f"{room[0]}% of {room[1] / 1024:.1f} GiB used" if room else "unknown"


def _database_size(server: Server) -> str:
    words = ["sudo", "du", "--summarize", "--block-size=MiB", f"{_DATABASE}/mlflow"]
    done = ssh.command(server.ssh, words)
    return f"{done.stdout.partition('M')[0]} MiB" if done.returncode == 0 else "unknown"
