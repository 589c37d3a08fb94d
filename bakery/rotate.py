"""Logins and the storage key, changed while the server serves.

The state is written first and is what counts; a machine that differs is told at the next call,
so a kill at any point leaves nothing that would not be put right.
"""

import hashlib
import json
from typing import Any

from bakery import checks, environment, ssh
from bakery.errors import BakeryError
from bakery.log import step
from bakery.state import Generation
from bakery.targets.local import LocalTarget

_KEPT = "/var/lib/mlflow-data/environment.json"
_COMPOSE = "/usr/share/mlflow-bakery/compose/compose.yaml"
_VARIABLES = "/run/mlflow-bakery/compose.env"
# The checksum is for a connection that is cut off: `cat` would take the part for the whole.
_WRITE = f"""
set -e; umask 077; new={_KEPT}.pushed
cat >$new; echo "$1  $new" | sha256sum --check --quiet
sync $new; mv $new {_KEPT}; sync /var/lib/mlflow-data
"""


def apply(target: LocalTarget, generation: Generation, *, settings: bool = False) -> None:
    """Tell a running machine of the logins and the storage key, if it does not know them yet.

    With `settings` it is told of all that a new machine would be told, and its server restarts.

    Raises:
        BakeryError: The machine could not be told; the next call tries again.
    """
    known = _read(target, generation)
    wanted = target.environment() if settings else _with_secrets(target, known)
    told = environment.digest(wanted)
    if not told == environment.digest(known) == target.deployment.environment_digest:
        with step("Tell the machine"):
            _push(target, generation, wanted, known["serial"])
            words = ["systemctl", "restart", "mlflow.service"]
            if not settings:
                words = ["/usr/lib/mlflow-bakery/prepare", "--running"]
            _sudo(target, generation, words)
        target.deployment.environment_digest = told
        target.folder.save(target.deployment)
    if target.secrets.previous_storage_key:
        _finish_storage_key(target, generation)


def _with_secrets(target: LocalTarget, known: dict[str, Any]) -> dict[str, Any]:
    secrets = target.secrets
    key = secrets.storage_key.get_secret_value()
    return {
        **known,
        "users": secrets.logins(target.deployment.username),
        "storage": {**known["storage"], "key": key},
    }


def _read(target: LocalTarget, generation: Generation) -> dict[str, Any]:
    """Return the environment that a machine has, once its server is up."""
    access = target.ssh(generation)
    active = ["systemctl", "is-active", "--quiet", "mlflow.service"]
    seconds = target.settings.ready_seconds
    if not ssh.wait(lambda: ssh.command(access, active).returncode == 0, seconds=seconds):
        raise BakeryError(
            f"the server of generation {generation.number} did not come up within {seconds} s",
            hint="its own story: ./inv logs --service machine",
            tail=target.journal(generation),
        )
    return dict(json.loads(_sudo(target, generation, ["cat", _KEPT])))


def _push(target: LocalTarget, generation: Generation, wanted: dict[str, Any], serial: int) -> None:
    """Write an environment with a higher serial than any before to the data disk."""
    deployment = target.deployment
    deployment.environment_serial = max(deployment.environment_serial, serial) + 1
    target.folder.save(deployment)
    text = environment.as_text(wanted, deployment.environment_serial)
    digest = hashlib.sha256(text.encode()).hexdigest()
    _sudo(target, generation, ["sh", "-c", _WRITE, "sh", digest], stdin=text)


def _finish_storage_key(target: LocalTarget, generation: Generation) -> None:
    """Let MLflow use the new key while both are valid, then let the old one go."""
    with step("Restart MLflow with the new storage key"):
        words = ["docker", "compose", "--file", _COMPOSE, "--env-file", _VARIABLES]
        _sudo(target, generation, [*words, "restart", "mlflow"])
        checks.wait_ready(target.server(generation), deadline=target.settings.ready_seconds)
    with step("Retire the old storage key"):
        secrets = target.secrets
        target.folder.save_secrets(secrets.model_copy(update={"previous_storage_key": None}))
        target.start_storage()


def _sudo(
    target: LocalTarget, generation: Generation, words: list[str], stdin: str | None = None
) -> str:
    done = ssh.command(target.ssh(generation), ["sudo", *words], stdin=stdin, timeout=180)
    if done.returncode != 0:
        raise BakeryError(
            f"{words[0]} failed in the machine with code {done.returncode}",
            hint="./inv start tries again; ./inv deploy --replace makes a new machine",
            tail=done.stderr.strip(),
        )
    return done.stdout
