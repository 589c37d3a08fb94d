"""Backups of a deployment's database: made, listed and restored by the machine's own tools."""

import json
from datetime import UTC, datetime
from typing import Any

from bakery import checks, targets
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, warn
from bakery.manifest import Manifest
from bakery.run import last_lines
from bakery.settings import Settings
from bakery.state import Generation
from bakery.targets.base import Target

_TOOL = "/usr/lib/mlflow-bakery/backup"
_REFUSED = "REFUSED: "
_SECONDS = 7200
_Machine = tuple[Target, Generation]
_HINTS = {
    "no backup": "./inv backup --list",
    "truncated": "--from-blob takes the copy in Blob",
    "altered": "--from-blob takes the copy in Blob",
    "cannot be unpacked": "--from-blob takes the copy in Blob",
    "does not know": "bake and deploy an image with that MLflow or a newer one, then again",
    "the database has": "--replace-data replaces it, after a backup of it",
    "MiB free": "a larger data disk, or fewer backups on it",
}


def backup(settings: Settings) -> dict[str, Any]:
    """Make a backup while the server goes on; return its manifest.

    Raises:
        InputError: Nothing is deployed, or it is stopped.
        BakeryError: It could not be made, verified or copied to Blob; then it does not count.
    """
    with targets.opened(settings) as target:
        machine = _running(target)
        with step("Backup: dump, verify, copy to Blob"):
            made: dict[str, Any] = _machine(machine, "make")
    note(f"{made['name']}: {_contents(made)}")
    return made


def keep(target: Target, generation: Generation, reason: str) -> str:
    """Make a backup that no rule of retention removes; return its name.

    Raises:
        BakeryError: It could not be made, verified or copied to Blob; then it does not count.
    """
    return str(_machine((target, generation), "make", "--keep", reason)["name"])


def before_migration(target: Target, image: Manifest) -> None:
    """Back up what serves before an image changes its schema; nothing to do if it does not.

    Raises:
        BakeryError: It could not be made; the server goes on as before.
    """
    current, revision = target.deployment.generation, target.schema(image)["revision"]
    if current is None or current.revision == revision or not target.running(current):
        return
    versions = {one.name: one.version for one in image.containers}
    reason = f"before the upgrade to MLflow {versions['mlflow']}"
    with step(f"Backup: the schema goes from {current.revision} to {revision}"):
        name = keep(target, current, reason)
    note(f"kept: {name}")


def backups(settings: Settings) -> list[dict[str, Any]]:
    """Return every backup, the newest first, with its age and the places where it lies.

    Raises:
        InputError: Nothing is deployed, or it is stopped.
    """
    found = _machine(_running(targets.seen(settings)), "list")
    if found["blob_error"]:
        warn(f"only those on the data disk are shown: {found['blob_error']}")
    return [{**row, "age": age(row["created"])} for row in found["backups"]]


def restore(
    settings: Settings,
    name: str,
    *,
    drill: bool = False,
    replace_data: bool = False,
    from_blob: bool = False,
) -> dict[str, Any]:
    """Serve from a backup, or only try it (`drill`); `name` may be "newest".

    It is loaded beside what serves, which goes on until the loaded data is whole and compared.

    Raises:
        InputError: The backup cannot be used, or the database has runs and `replace_data` is not
            given; nothing was touched.
        BakeryError: A step failed; what served before serves.
    """
    with targets.opened(settings) as target:
        machine = _running(target)
        with step("Fetch and verify the backup"):
            found = _machine(machine, "fetch", name, *(["--from-blob"] if from_blob else []))
        chosen = found["manifest"]
        note(f"{chosen['name']}: {_contents(chosen)}")
        if not drill:
            _check_place(found, replace_data=replace_data)
        with step("Load it into a MySQL of its own and compare every table"):
            words = ["load", chosen["name"], *(["--drill"] if drill else [])]
            loaded: dict[str, Any] = _machine(machine, *words)
        if drill:
            note(f"{len(loaded['rows'])} tables have the rows that they should; nothing changed")
            return loaded
        with step("Put it in place"):
            placed = _put_in_place(machine, chosen["name"], replace_data=replace_data)
        with step("Ready: an authenticated call that reads the database"):
            checks.wait_ready(target.server(), deadline=settings.ready_seconds)
    if placed["backup_before"]:
        note(f"what was there before is kept: {placed['backup_before']}")
    return placed


def last_backup(target: Target, generation: Generation) -> dict[str, str] | None:
    """Return name, time and age of the newest backup on the data disk; None without one."""
    try:
        found = _machine((target, generation), "last")
    except BakeryError:
        return None
    if found is None:
        return None
    return {"name": found["name"], "created": found["created"], "age": age(found["created"])}


def age(created: str, now: datetime | None = None) -> str:
    """Return how long ago a time was, in its largest unit."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(created)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _running(target: Target) -> _Machine:
    name, generation = target.server().name, target.deployment.generation
    if generation is None or not target.running(generation):
        raise InputError(f"{name} is stopped", hint="./inv start")
    return target, generation


def _check_place(found: dict[str, Any], *, replace_data: bool) -> None:
    if found["living"] and not replace_data:
        raise _refusal(f"the database has {found['living']} runs, experiments or models")
    if found["artifacts"] != found["manifest"]["artifacts"]:
        warn(
            f"its runs have their files in {found['manifest']['artifacts']},"
            f" this server looks in {found['artifacts']}"
        )


def _put_in_place(machine: _Machine, name: str, *, replace_data: bool) -> dict[str, Any]:
    """Let systemd run the step that stops the server: it must end even if we are killed."""
    words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=mlflow-restore"]
    flag = ["--replace-data"] if replace_data else []
    placed: dict[str, Any] = _machine(machine, "put-in-place", name, *flag, before=words)
    return placed


def _machine(machine: _Machine, *words: str, before: list[str] | None = None) -> Any:
    """Run the machine's tool and return what it answers.

    Raises:
        InputError: It refuses.
        BakeryError: It fails, or the machine does not answer.
    """
    target, generation = machine
    done = target.execute(generation, [*(before or []), _TOOL, *words], timeout=_SECONDS)
    if done.code == 0:
        return json.loads(done.out)
    lines = [line for line in done.err.splitlines() if line.strip()] or ["no reason given"]
    refused = [line for line in lines if line.startswith(_REFUSED)]
    if refused:
        raise _refusal(refused[-1].removeprefix(_REFUSED))
    if done.code == 255:
        raise BakeryError("the machine does not answer", hint="./inv status", tail=lines[-1])
    raise BakeryError(
        f"the machine's backup tool failed: {words[0]}",
        hint="./inv logs --service machine; an older image has no such tool: bake and deploy",
        tail=last_lines(done.err),
    )


def _refusal(text: str) -> InputError:
    hints = [hint for words, hint in _HINTS.items() if words in text]
    return InputError(text, hint=hints[0] if hints else "nothing was touched")


def _contents(manifest: dict[str, Any]) -> str:
    rows = manifest["rows"]
    counted = ", ".join(
        f"{rows.get(table, 0)} {table.replace('_', ' ')}"
        for table in ("experiments", "runs", "metrics", "params", "registered_models")
    )
    return f"{counted}; MLflow {manifest['mlflow']}, schema {manifest['revision']}"
