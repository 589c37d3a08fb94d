"""Looking at a deployment without changing it."""

from typing import Any

from bakery import checks, env, pool, ssh, tls
from bakery.backup import last_backup
from bakery.errors import BakeryError, InputError
from bakery.manifest import Catalogue, Manifest
from bakery.settings import Settings
from bakery.state import Deployment, DeploymentFolder
from bakery.targets.local import LocalTarget

_SERVICES = ("mysql", "migrate", "mlflow", "traefik")
_READY_SECONDS = 5


def status(settings: Settings) -> dict[str, Any]:
    """Return what runs.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    target = _look_at(settings)
    server, deployment = target.server(), target.deployment
    running = target.running()
    ready = running and _is_ready(target)
    return {
        "name": deployment.name,
        "target": settings.target,
        "state": "ready" if ready else "not ready" if running else "stopped",
        "url": server.url,
        "hostname": server.hostname,
        "address": server.address,
        "generation": deployment.generation and deployment.generation.number,
        "image": deployment.generation and deployment.generation.image,
        "username": server.username,
        "ca_file": server.ca_file and str(server.ca_file),
        "certificate_expires": _expiry(target),
        "containers": _containers(target) if running else {},
        "data_disk": _disk_usage(target) if running else None,
        "last_backup": last_backup(server.ssh) if running else None,
    }


def client_environment(settings: Settings, *, password: bool) -> dict[str, str]:
    """Return what a client of the deployment sets.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    return env.client_variables(_look_at(settings).server(), password=password)


def logs(settings: Settings, service: str, lines: int) -> str:
    """Return the end of a service's log, or of the machine's journal.

    Raises:
        InputError: There is no such service.
        BakeryError: The machine does not answer.
    """
    if service not in (*_SERVICES, "machine"):
        raise InputError(
            f"there is no service {service}", hint=f"one of {', '.join(_SERVICES)}, machine"
        )
    words = ["sudo", "docker", "logs", "--timestamps", "--tail", str(lines), f"mlflow-{service}-1"]
    if service == "machine":
        words = ["sudo", "journalctl", "--no-pager", "--lines", str(lines)]
    done = ssh.command(_look_at(settings).server().ssh, words)
    if done.returncode != 0:
        raise BakeryError(
            f"no log of {service} could be read", hint="./inv status", tail=done.stderr
        )
    return done.stdout + done.stderr


def ssh_command(settings: Settings, command: str) -> list[str]:
    """Return the argv that logs in to the machine; `command` goes to its shell as it is."""
    access = _look_at(settings).server().ssh
    words = ["ssh", *access.options, "-p", str(access.port), f"{access.user}@{access.host}"]
    return [*words, "--", command] if command else words


def images(settings: Settings) -> list[tuple[Manifest, str]]:
    """Return every image, oldest first, with the names of the deployments that run it."""
    state = settings.state_dir.absolute()
    if not Catalogue(state, state / "pool").manifests():
        return []
    names = sorted(path.name for path in state.glob("deployments/*"))
    found = [DeploymentFolder(state, name).load() for name in names]
    with pool.opened(state) as disks:
        return [(one, _deployed(one, found)) for one in Catalogue(state, disks).images()]


def _deployed(manifest: Manifest, deployments: list[Deployment | None]) -> str:
    return ", ".join(
        one.name
        for one in deployments
        if one and one.generation and one.generation.image == manifest.id
    )


def _look_at(settings: Settings) -> LocalTarget:
    DeploymentFolder(settings.state_dir, settings.name).deployed()
    return LocalTarget.seen(settings)


def _is_ready(target: LocalTarget) -> bool:
    try:
        checks.wait_ready(target.server(), deadline=_READY_SECONDS)
    except BakeryError:
        return False
    return True


def _expiry(target: LocalTarget) -> str:
    chain = target.settings.certificate or target.folder.tls / "server.pem"
    # Not there when the user's own is deployed and not named now.
    return f"{tls.expiry(chain):%Y-%m-%d}" if chain.exists() else "unknown"


def _containers(target: LocalTarget) -> dict[str, str]:
    words = ["sudo", "docker", "ps", "--all", "--format", "{{.Names}}\t{{.Status}}"]
    done = ssh.command(target.server().ssh, words)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[0].removeprefix("mlflow-").removesuffix("-1"): row[1] for row in rows}


def _disk_usage(target: LocalTarget) -> str:
    words = ["df", "--output=pcent", "/var/lib/mlflow-data"]
    done = ssh.command(target.server().ssh, words)
    return done.stdout.splitlines()[-1].strip() + " used" if done.returncode == 0 else "unknown"
