"""Back to the generation before: with the data as they are, or with those of its time."""

from bakery import duty, replace
from bakery.errors import BakeryError, InputError
from bakery.state import Generation, Pending, whoever
from bakery.targets.base import Target


def roll_back(target: Target, *, discard_newer: bool = False) -> None:
    """Serve from the kept generation again, with the data as they are now.

    One that cannot read them gets those that it left, if `discard_newer`; what is newer is kept
    as a backup first.

    Raises:
        InputError: There is none, or it cannot read the data; nothing was touched.
        BakeryError: It did not become ready; what served before serves again.
    """
    current, kept = _both(target)
    reason = replace.cannot_read(kept, current)
    if reason:
        _check_discard(target, current, reason, wanted=discard_newer)
    pending = Pending(
        action="rollback", generation=kept, by=whoever(), discard=bool(reason and discard_newer)
    )
    replace.carry_out(target, pending)


def _both(target: Target) -> tuple[Generation, Generation]:
    """Return the generation that counts and the one to go back to."""
    current, previous = target.deployment.generation, target.deployment.previous
    target.server()
    there = {one.number for one in target.generations()}
    if current is None or previous is None or previous.number not in there:
        raise InputError(
            f"{target.deployment.name} has no generation to go back to",
            hint="./inv history shows what ran; ./inv deploy --image ID deploys any image",
        )
    return current, previous


def _check_discard(target: Target, current: Generation, reason: str, *, wanted: bool) -> None:
    """Refuse to give up what is newer, unless that is wanted and can be done."""
    if not wanted:
        raise InputError(
            f"{reason}, and {_newer(target, current)}",
            hint="--discard-newer goes back to the data of before, after a backup of these",
        )
    if not target.running(current):
        raise InputError(
            f"{target.deployment.name} is stopped, and what is newer is to be kept as a backup",
            hint="./inv start, then again",
        )
    if current.number not in target.snapshots():
        raise InputError(
            f"{reason}, and the data of before generation {current.number} are not kept",
            hint="deploy an image with the older MLflow to a new name and restore a backup there",
        )


def _newer(target: Target, current: Generation) -> str:
    """Return in words how many runs would be lost."""
    before = target.deployment.counts.get("runs")
    try:
        now = duty.ask(target, current, "count").get("runs")
    except BakeryError:
        now = None
    if now is None or before is None:
        return "what is newer would be lost"
    runs = max(now - before, 0)
    return f"{runs} {'run is' if runs == 1 else 'runs are'} newer"
