"""Looking at a deployment without changing it."""

import re
from typing import Any

from bakery import checks, env, targets, tls
from bakery.backup import last_backup
from bakery.errors import BakeryError
from bakery.log import warn
from bakery.settings import Settings
from bakery.state import Event, Generation, Pending
from bakery.targets.base import Server, Target

_READY_SECONDS = 5
_NEARLY_FULL = 90
_DATABASE = "/var/lib/mlflow-data/mysql/data"
_NOTHING_INSIDE: dict[str, Any] = {
    "containers": {},
    "data_disk": None,
    "database": None,
    "last_backup": None,
}


def status(settings: Settings) -> dict[str, Any]:
    """Return what runs.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    target = targets.seen(settings)
    deployment, pending = target.deployment, target.deployment.pending
    shown = _shown(target)
    server = target.server(shown)
    running = shown is not None and target.running(shown)
    ready = running and _is_ready(server.as_client, seconds=_READY_SECONDS)
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
        "certificate_expires": _expiry(server),
        **(_inside(target, shown) if shown and running else _NOTHING_INSIDE),
        "training": target.training.status(),
        "drift": target.drift(),
    }


def _inside(target: Target, generation: Generation) -> dict[str, Any]:
    room = room_left(target, generation)
    return {
        "containers": _containers(target, generation),
        "data_disk": f"{room[0]}% of {room[1] / 1024:.1f} GiB used" if room else "unknown",
        "database": _database_size(target, generation),
        "last_backup": last_backup(target, generation),
    }


def history(settings: Settings) -> list[Event]:
    """Return what ran when, oldest first.

    Raises:
        InputError: Nothing is called by this name.
    """
    return targets.seen(settings).deployment.history


def client_environment(settings: Settings, *, password: bool) -> dict[str, str]:
    """Return what a client of the deployment sets; a server that is not ready is told of.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    server = targets.seen(settings).server()
    if not _is_ready(server.as_client, seconds=3):
        warn(f"{server.url} is not ready; ./inv status tells more")
    return env.client_variables(server, password=password)


def _shown(target: Target) -> Generation | None:
    """Return the generation that counts, or a first one that is on its way."""
    pending = target.deployment.pending
    return target.deployment.generation or (pending.generation if pending else None)


def _pending(pending: Pending) -> str:
    number = pending.generation.number
    return f"{pending.action} of generation {number}, step {pending.step} (./inv deploy goes on)"


def _is_ready(server: Server, *, seconds: float) -> bool:
    try:
        checks.wait_ready(server, deadline=seconds)
    except BakeryError:
        return False
    return True


def _expiry(server: Server) -> str:
    chain = server.certificate
    # Not there when the user's own is deployed and not named now.
    return f"{tls.expiry(chain):%Y-%m-%d}" if chain and chain.exists() else "unknown"


def _containers(target: Target, generation: Generation) -> dict[str, str]:
    words = ["docker", "ps", "--all", "--format", "{{.Names}}\t{{.Status}}"]
    rows = [line.split("\t") for line in target.execute(generation, words).out.splitlines()]
    return {row[0].removeprefix("mlflow-").removesuffix("-1"): row[1] for row in rows}


def room_left(target: Target, generation: Generation) -> tuple[int, int] | None:
    """Return how much of the data disk is used, in percent, and its size in MiB; None if unknown.

    At 90 % it warns: a full one refuses what is logged.
    """
    words = ["df", "--output=pcent,size", "--block-size=MiB", "/var/lib/mlflow-data"]
    found = re.findall(r"(\d+)% +(\d+)MiB", target.execute(generation, words).out)
    if not found:
        return None
    used, size = (int(number) for number in found[-1])
    if used >= _NEARLY_FULL:
        warn(
            f"the data disk is {used} % full; at 100 % the server refuses what is logged:"
            f" ./inv resize makes it larger, ./inv backup --list shows old backups"
        )
    return used, size


def _database_size(target: Target, generation: Generation) -> str:
    words = ["du", "--summarize", "--block-size=MiB", f"{_DATABASE}/mlflow"]
    done = target.execute(generation, words)
    return f"{done.out.partition('M')[0]} MiB" if done.code == 0 else "unknown"
