"""Deleting for good what MLflow only marked as deleted: runs, models, experiments."""

import json
import re
from dataclasses import dataclass

from bakery import targets
from bakery.deploy import serving
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, warn
from bakery.run import last_lines
from bakery.settings import Settings

_COMPOSE = (
    *("docker", "compose", "--file", "/usr/share/mlflow-bakery/compose/compose.yaml"),
    *("--env-file", "/run/mlflow-bakery/compose.env"),
)
_SECONDS = 7200
_KINDS = ("run", "model", "experiment")
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Purged:
    """What became of a run, a model or an experiment that was marked as deleted."""

    kind: str
    id: str
    name: str
    experiment: str
    location: str
    why: str
    """Why it was not deleted; empty when it was, or would be in a dry run."""


def parse_age(text: str) -> int:
    """Return the milliseconds of an age such as 30d or 1d12h.

    Raises:
        InputError: It is none.
    """
    found = _AGE.fullmatch(text)
    if not text or found is None:
        raise InputError(f"--older-than {text}: no age", hint="such as 30d, 12h or 1d12h")
    parts = zip(_UNITS.values(), found.groups(), strict=True)
    return sum(size * int(number) for size, number in parts if number)


def purge(settings: Settings, *, older_than: str = "0s", dry_run: bool = False) -> list[Purged]:
    """Delete what was marked longer ago than that, and return what became of each.

    With `dry_run` nothing is deleted: the result is what would be.

    Raises:
        InputError: No such age; nothing is deployed, or it is stopped.
        BakeryError: Database or store could not be read; what was deleted until then is gone.
    """
    words = ["--older-than", str(parse_age(older_than)), *(["--dry-run"] if dry_run else [])]
    with targets.opened(settings) as target:
        generation = serving(target)
        title = "Look what is marked as deleted" if dry_run else "Delete what is marked"
        with step(title):
            argv = [*_COMPOSE, "run", "--rm", "--no-TTY", "--no-deps", "gc", *words]
            done = target.execute(generation, argv, timeout=_SECONDS)
    if done.code != 0:
        raise BakeryError(
            "not everything could be looked at",
            hint="run it again; an older image has no gc: bake and deploy",
            tail=last_lines(done.err),
        )
    return [Purged(**one) for one in json.loads(done.out.splitlines()[-1])]


def report(found: list[Purged], *, dry_run: bool) -> None:
    """Say what was deleted, and of each thing that was not, why.

    Raises:
        BakeryError: Something could not be deleted.
    """
    verb = "would be deleted" if dry_run else "deleted for good"
    gone = [one for one in found if not one.why]
    counts = [(kind, sum(one.kind == kind for one in gone)) for kind in _KINDS]
    note(", ".join(f"{number} {kind}{'s'[number == 1 :]}" for kind, number in counts) + f" {verb}")
    kept = [one for one in found if one.why]
    for one in kept:
        warn(f"{one.kind} {one.id} ({one.name}) stays: {one.why}")
    if kept and not dry_run:
        raise BakeryError(
            f"{len(kept)} could not be deleted", hint="they are still marked; ./inv gc tries again"
        )
