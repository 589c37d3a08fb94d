"""Logins and the storage key, changed while the server serves.

The state is written first and is what counts; a machine that differs is told at the next call,
so a kill at any point leaves nothing that would not be put right.
"""

import hashlib
import json
from typing import Any

from bakery import checks, duty, environment, ssh
from bakery.errors import BakeryError
from bakery.log import step
from bakery.state import Generation
from bakery.targets.base import Target

PATIENCE = 240
"""Seconds for what has served before: to give it up early would help nobody."""
_KEPT = "/var/lib/mlflow-data/environment.json"
_COMPOSE = "/usr/share/mlflow-bakery/compose/compose.yaml"
_VARIABLES = "/run/mlflow-bakery/compose.env"
# The checksum is for a connection that is cut off: `cat` would take the part for the whole.
_WRITE = f"""
set -e; umask 077; new={_KEPT}.pushed
cat >$new; echo "$1  $new" | sha256sum --check --quiet
sync $new; mv $new {_KEPT}; sync /var/lib/mlflow-data
"""


def apply(target: Target, generation: Generation, *, settings: bool = False) -> None:
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
            _must(target, generation, words)
        target.deployment.environment_digest = told
        target.save()
    if target.secrets.previous_storage_key:
        _finish_storage_key(target, generation)


def _with_secrets(target: Target, known: dict[str, Any]) -> dict[str, Any]:
    secrets, storage = target.secrets, known["storage"]
    if not storage.get("client_id"):  # a machine with an identity has no key
        storage = {**storage, "key": secrets.storage_key.get_secret_value()}
    users = secrets.logins(target.deployment.username)
    return {**known, "users": users, "storage": storage}


def _read(target: Target, generation: Generation) -> dict[str, Any]:
    """Return the environment that a machine has, once its server is up."""
    active = ["systemctl", "is-active", "--quiet", "mlflow.service"]
    seconds = max(target.settings.ready_seconds, PATIENCE)
    if not ssh.wait(lambda: target.execute(generation, active).code == 0, seconds=seconds):
        raise BakeryError(
            f"the server of generation {generation.number} did not come up within {seconds} s",
            hint="its own story: ./inv logs --service machine",
            tail=duty.journal(target, generation),
        )
    return dict(json.loads(_must(target, generation, ["cat", _KEPT])))


def _push(target: Target, generation: Generation, wanted: dict[str, Any], serial: int) -> None:
    """Write an environment with a higher serial than any before to the data disk."""
    deployment = target.deployment
    deployment.environment_serial = max(deployment.environment_serial, serial) + 1
    target.save()
    text = environment.as_text(wanted, deployment.environment_serial)
    digest = hashlib.sha256(text.encode()).hexdigest()
    _must(target, generation, ["sh", "-c", _WRITE, "sh", digest], stdin=text)


def _finish_storage_key(target: Target, generation: Generation) -> None:
    """Let MLflow use the new key while both are valid, then let the old one go."""
    with step("Restart MLflow with the new storage key"):
        words = ["docker", "compose", "--file", _COMPOSE, "--env-file", _VARIABLES]
        _must(target, generation, [*words, "restart", "mlflow"])
        checks.wait_ready(target.server(generation), deadline=target.settings.ready_seconds)
    with step("Retire the old storage key"):
        target.retire_storage_key()


def _must(
    target: Target, generation: Generation, words: list[str], stdin: str | None = None
) -> str:
    done = target.execute(generation, words, stdin=stdin)
    if done.code != 0:
        raise BakeryError(
            f"{words[0]} failed in the machine with code {done.code}",
            hint="./inv start tries again; ./inv deploy --replace makes a new machine",
            tail=done.err.strip(),
        )
    return done.out
