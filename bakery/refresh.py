"""`refresh`: lock every input anew and bake; a new image counts when it has passed its test."""

from dataclasses import dataclass
from pathlib import Path

from bakery import up
from bakery.bake import bake
from bakery.deploy import deploy, destroy
from bakery.difference import Change, markdown, table
from bakery.errors import BakeryError
from bakery.images import images
from bakery.lock import lock
from bakery.log import note, step
from bakery.manifest import Manifest
from bakery.pins import LOCK, Lock, read_lock
from bakery.settings import Settings


@dataclass(frozen=True)
class Refreshed:
    """What a refresh came to."""

    image: Manifest
    """The newest good image."""
    old: str
    """The image that was the newest before; empty when there was none."""
    new: bool
    report: str
    """In Markdown."""


def refresh(
    settings: Settings, *, summary: Path | None = None, lock_file: Path = LOCK
) -> Refreshed:
    """Lock anew, compare, bake, test, promote; or find that there is nothing new.

    The report is appended to `summary`, such as GitHub's file of a job's summary.

    Raises:
        InputError: It cannot be baked from here.
        BakeryError: A step or the test failed; the image that was the newest still is.
    """
    try:
        done = _refresh(settings, lock_file)
    except BakeryError as failed:
        _append(
            summary, f"## Refresh failed\n\n{failed}\n\nThe image of before stays the newest.\n"
        )
        raise
    _append(summary, done.report)
    return done


def _refresh(settings: Settings, lock_file: Path) -> Refreshed:
    with step("What there is"):
        before = [one.manifest for one in images(settings) if one.state == "good" and one.manifest]
    was = read_lock(lock_file)
    with step("Lock"):
        missed = lock(
            cache=settings.state_dir.absolute() / "cache",
            registry=settings.registry,
            tls_verify=settings.registry_tls_verify,
            path=lock_file,
        )
    locked = _lock_report(was, read_lock(lock_file), missed)
    with step("Bake"):
        made = bake(settings, prove=_try_out)
    old = before[-1] if before else None
    if made.id in {one.id for one in before}:
        note(f"nothing new: {made.id} is what these inputs make")
        report = f"## Nothing new\n\n{made.id} is still what the inputs make.\n"
        return Refreshed(made, made.id, new=False, report=f"{report}\n{locked}".rstrip() + "\n")
    report = f"{markdown(old, made)}\n{locked}".rstrip() + "\n"
    return Refreshed(made, old.id if old else "", new=True, report=report)


def _try_out(settings: Settings, made: Manifest) -> None:
    """Deploy an image for a trial on this host, check it as `check` does, and remove all of it.

    Raises:
        BakeryError: It does not serve, or a check fails.
    """
    # The same name after a kill: what the first try left is then gone on with, and removed.
    trial = settings.model_copy(
        update={
            "name": f"trial-{made.id[-8:]}",
            "hostname": None,
            "certificate": None,
            "certificate_key": None,
            "certificate_root": None,
        }
    )
    try:
        with step("Deploy it for a trial"):
            deploy(trial, image=made.id)
        failed = [one for one in up.check_server(trial) if not one.ok]
    finally:
        with step("Remove the trial"):
            destroy(trial, with_data=True)
    if failed:
        raise BakeryError(
            f"{made.id} did not pass: {', '.join(one.name for one in failed)}",
            hint="it stays out of use; ./inv prune --yes removes it",
            tail="\n".join(f"{one.name}: {one.detail}" for one in failed),
        )


def _lock_report(was: Lock, now: Lock, missed: list[str]) -> str:
    old, new = _pins(was), _pins(now)
    changes: list[Change] = [
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    parts = [table("Lock", changes)]
    if missed:
        parts.append("Not resolved, kept as it was:\n")
        parts += [f"- {one.splitlines()[0]}" for one in missed]
    return "\n".join(part for part in parts if part)


def _pins(pinned: Lock) -> dict[str, str]:
    found = {"mlflow": pinned.mlflow, "traefik": pinned.traefik, "mysql": pinned.mysql_series}
    found |= {f"registry {one.name}": one.digest for one in pinned.registry}
    return found | {base: one.release for base, one in pinned.ubuntu}


def _append(summary: Path | None, text: str) -> None:
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
