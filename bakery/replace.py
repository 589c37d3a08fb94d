"""One generation gives way to another: each step written down before it is done.

Until the check is green nobody but the check is let in, so whatever went wrong before `admit` is
undone: the old generation gets its data disk back, as it was if a migration had begun. From
`admit` on there is no way back, and the next call goes on.
"""

from datetime import UTC, datetime
from functools import partial

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from bakery import checks, duty, rotate
from bakery.backup import keep
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, warn
from bakery.manifest import Manifest
from bakery.network import MANAGEMENT
from bakery.state import Event, Generation, Pending, Step, whoever
from bakery.targets.base import Target

_READY = "Ready: an authenticated call that reads the database"
_SERVES_SECONDS = 3
_insisting = retry(
    retry=retry_if_exception_type(BakeryError),
    stop=stop_after_attempt(3),
    wait=wait_fixed(1),
    reraise=True,
)
"""Tries again what has no way back: while it fails, nobody is let in."""


def replace(target: Target, image: Manifest) -> None:
    """Serve from a new generation; one that does not become ready gives way to the old one.

    Raises:
        BakeryError: It did not become ready; the old one serves again.
    """
    carry_out(target, Pending(action="deploy", generation=_next(target, image), by=whoever()))


def check_image(target: Target, image: Manifest) -> None:
    """Refuse an image that cannot read the deployment's data.

    Raises:
        InputError: Its MySQL is older, or its MLflow does not know the schema.
    """
    current = target.deployment.generation
    if current is None or image.id == current.image:
        return
    versions = {one.name: one.version for one in image.containers}
    if current.mysql and version_numbers(versions["mysql"]) < version_numbers(current.mysql):
        raise InputError(
            f"image {image.id} has MySQL {versions['mysql']}, the data are of {current.mysql}:"
            " an older MySQL cannot read them",
            hint="deploy an image with that MySQL or a newer one: ./inv images",
        )
    known = target.schema(image)
    if current.revision and current.revision not in (known["revision"], *known["ancestors"]):
        raise InputError(
            f"the MLflow {versions['mlflow']} of image {image.id} does not know the schema of the"
            f" data (revision {current.revision} of MLflow {current.mlflow})",
            hint="deploy an image with that MLflow or a newer one: ./inv images",
        )


def recover(target: Target) -> None:
    """Bring a replacement to its end that was cut off; the foundations must be there.

    Raises:
        BakeryError: The generation that should serve cannot be made to.
    """
    pending = target.deployment.pending
    if pending is None:
        _tidy(target)
        return
    number = pending.generation.number
    warn(f"a {pending.action} was cut off: generation {number}, step {pending.step}")
    if pending.step == "admit":
        try:
            serve(target, pending.generation)
        finally:
            # It counts, whether it serves or not: the way back is `rollback`.
            _finish(target, pending)
    else:
        _undo(target, pending, "cut off")


def serve(target: Target, generation: Generation) -> None:
    """Let the generation that counts serve; what is done already is left as it is.

    It was checked before, so clients are let in as soon as it answers, even if that takes longer
    than anybody waits for it here.

    Raises:
        BakeryError: It does not answer.
    """
    with step(f"Start generation {generation.number}"):
        target.create(generation)
        target.attach(generation)
        target.move_address(generation)
        target.admit(generation)
        target.activate(generation)
    with step(_READY):
        # The check asks with the logins that the state has; a rotation may have been cut off.
        rotate.apply(target, generation)
        _wait_ready(target, generation, patience=rotate.PATIENCE)


def serves(target: Target, generation: Generation) -> bool:
    """Return whether a generation serves clients right now."""
    if not target.running(generation):
        return False
    try:
        checks.wait_ready(target.server(generation).as_client, deadline=_SERVES_SECONDS)
    except BakeryError:
        return False
    return True


def wait_ready(target: Target, generation: Generation, *, patience: int = 0) -> None:
    """Wait until a generation serves the check over HTTPS; with `patience`, in s, its clients.

    Raises:
        BakeryError: It does not; with the end of its log.
    """
    with step(_READY):
        _wait_ready(target, generation, patience=patience)


def _wait_ready(target: Target, generation: Generation, *, patience: int) -> None:
    try:
        server, seconds = target.server(generation), target.settings.ready_seconds
        if patience:
            checks.wait_ready(server.as_client, deadline=max(seconds, patience))
        else:
            checks.wait_ready(server, deadline=seconds, fault=partial(target.fault, generation))
    except BakeryError as error:
        error.tail = error.tail or duty.journal(target, generation)
        raise


def carry_out(target: Target, pending: Pending) -> None:
    """Do all steps; whatever goes wrong before `admit`, what served before serves again.

    Raises:
        BakeryError: Something did; or it is committed and the next call has to end it.
    """
    _tidy(target)
    pending = _mark(target, pending, "create")
    try:
        pending = _stand_by(target, pending)
        pending = _take_from_old(target, pending)
        _give_to_new(target, pending)
    except BaseException as error:
        _give_way(target, pending, error)
        raise
    _commit(target, pending)
    _admit(target, pending.generation)
    _finish(target, pending)
    if pending.action == "rollback" or target.secrets.previous_storage_key:
        rotate.apply(target, pending.generation)


def _stand_by(target: Target, pending: Pending) -> Pending:
    """Boot the new machine as far as it comes without the data, while the old one serves."""
    generation, before = pending.generation, target.deployment.generation
    with step(f"Generation {generation.number} to standby"):
        told = target.create(generation)
        if before and target.running(before):
            duty.ask(target, generation, "wait")
    return pending.model_copy(update={"environment_digest": told})


def _take_from_old(target: Target, pending: Pending) -> Pending:
    """Let the old machine end its work, and take a copy of the data as it left them."""
    before = target.deployment.generation
    if before:
        pending = _mark(target, pending, "quiesce")
        if pending.discard:
            _keep_newer(target, before)
        with step(f"Quiesce generation {before.number}"):
            counts = target.quiesce(before)
        pending = _mark(target, pending.model_copy(update={"counts": counts}), "detach")
        target.detach(before)
    if target.deployment.data_disk_served:
        pending = _mark(target, pending, "snapshot")
        target.snapshot(pending.generation)
        if before and pending.discard:
            target.restore_snapshot(before)
    return pending


def _keep_newer(target: Target, current: Generation) -> None:
    """Make a backup, which no rule of retention removes, of what a rollback gives up."""
    with step("Backup of the newer database, to be kept"):
        duty.ask(target, current, "close")
        name = keep(target, current, "before a rollback")
    note(f"what is newer is kept: {name}")


def _give_to_new(target: Target, pending: Pending) -> None:
    """Hand data disk and address over, and check what the new machine makes of them."""
    generation = pending.generation
    with step(f"Data disk and address to generation {generation.number}"):
        pending = _mark(target, pending, "attach")
        target.attach(generation)
        pending = _mark(target, pending, "move")
        target.move_address(generation)
        pending = _mark(target, pending, "activate")
        target.activate(generation)
    pending = _mark(target, pending, "check")
    wait_ready(target, generation)
    if pending.discard:
        # These data know only the logins and keys of their time.
        rotate.apply(target, generation, settings=True)
        wait_ready(target, generation)
    else:
        _compare_counts(target, pending)


def _compare_counts(target: Target, pending: Pending) -> None:
    """Refuse a generation that does not show every row that the old one had.

    Raises:
        BakeryError: It does not.
    """
    # On an empty disk, in the place of one that is gone, nothing is missed.
    if not (pending.counts and target.deployment.data_disk_served):
        return
    now = duty.ask(target, pending.generation, "count")
    wrong = [
        f"{table}: {rows} before, {now[table]} now"
        for table, rows in pending.counts.items()
        if now.get(table, rows) != rows
    ]
    if wrong:
        raise BakeryError(
            f"generation {pending.generation.number} has other rows: {', '.join(wrong)}"
        )


def _mark(target: Target, pending: Pending, at: Step) -> Pending:
    """Write down what is about to be done."""
    pending = pending.model_copy(update={"step": at})
    deployment = target.deployment
    deployment.pending = pending
    deployment.last_number = max(deployment.last_number, pending.generation.number)
    target.save()
    return pending


def _commit(target: Target, pending: Pending) -> None:
    """Make the new generation the one that counts, in one write; then clients may get in."""
    deployment, rolled_back = target.deployment, pending.action == "rollback"
    before = deployment.generation
    deployment.ended("rolled back" if rolled_back else "replaced")
    deployment.generation = pending.generation
    deployment.previous = None if rolled_back else before
    deployment.counts = {} if rolled_back else pending.counts
    deployment.data_disk_served = True
    if pending.environment_digest:
        deployment.environment_digest = pending.environment_digest
    _insisting(_mark)(target, pending, "admit")


def _admit(target: Target, generation: Generation) -> None:
    with step("Admit clients"):
        _insisting(target.admit)(generation)
        server, seconds = target.server(generation), target.settings.ready_seconds
        checks.wait_ready(server.as_client, deadline=seconds)


def _finish(target: Target, pending: Pending) -> None:
    """Stop the generation before for good, and end the replacement."""
    before = target.deployment.previous
    if before and target.running(before):
        with step(f"Stop generation {before.number}"):
            target.retire(before)
    _end(target, pending, "serving")


def _end(target: Target, pending: Pending, outcome: str) -> None:
    """Write the history and forget what was pending, in one write; then clear away."""
    generation, deployment = pending.generation, target.deployment
    deployment.history.append(
        Event(
            action=pending.action,
            generation=generation.number,
            image=generation.image,
            mlflow=generation.mlflow,
            revision=generation.revision,
            started=pending.started,
            by=pending.by,
            seconds=round((datetime.now(UTC) - pending.started).total_seconds(), 1),
            outcome=outcome,
        )
    )
    deployment.pending = None
    target.save()
    _tidy(target)


def _tidy(target: Target) -> None:
    """Remove every machine but those that are kept, and the snapshots that nobody needs."""
    for found in target.generations():
        if found.number not in target.deployment.kept:
            target.remove(found)
    target.forget_snapshots(but=_needed(target))


def _needed(target: Target) -> set[int]:
    """Return whose snapshots a rollback would take: the kept generation cannot read the data."""
    current, previous = target.deployment.generation, target.deployment.previous
    return {current.number} if current and previous and cannot_read(previous, current) else set()


def cannot_read(older: Generation, newer: Generation) -> str:
    """Return why a generation cannot read the data of another; nothing if it can."""
    if not newer.revision or newer.revision != older.revision:
        return (
            f"generation {older.number} (MLflow {older.mlflow}) reads schema revision"
            f" {older.revision or 'unknown'}, the data are at {newer.revision or 'unknown'}:"
            " MLflow has no way back"
        )
    if version_numbers(older.mysql) < version_numbers(newer.mysql):
        return (
            f"generation {older.number} has MySQL {older.mysql}, older than the data"
            f" ({newer.mysql}): MySQL has no way back"
        )
    return ""


def _give_way(target: Target, pending: Pending, error: BaseException) -> None:
    """Undo after an error; if that fails too, the next call tries again."""
    reason = str(error) or "interrupted"
    try:
        _undo(target, target.deployment.pending or pending, reason, settings=True)
    except BakeryError as failure:
        before = target.deployment.generation
        number = before.number if before else pending.generation.number
        warn(f"generation {number} does not start: {failure}; ./inv start tries again")


def _undo(target: Target, pending: Pending, reason: str, *, settings: bool = False) -> None:
    """Stop what nobody was let in to, and let the generation before serve again.

    The caller's `settings` were meant for the new generation. The state has their secrets
    already, so the old one is told; a later call may lack them and leaves the rest as it is.
    """
    untouched = pending.step == "create"
    before, failed = target.deployment.generation, pending.generation
    if pending.step != "resume":
        pending = _mark(target, pending, "undo")
        target.retire(failed)
        target.detach(failed)
        if target.changed_data(failed):
            target.restore_snapshot(failed)
        # From here on the old machine may have the data disk: nobody looks at it again.
        pending = _mark(target, pending, "resume")
    if before:
        if not (untouched and target.running(before)):
            warn(f"generation {before.number} takes over again")
            serve(target, before)
        rotate.apply(target, before, settings=settings)
        wait_ready(target, before, patience=rotate.PATIENCE)
    _end(target, pending, f"undone: {reason}")
    if before:
        note(f"generation {before.number} serves again")


def _next(target: Target, image: Manifest) -> Generation:
    """Return the generation that an image would be; no number is ever used twice."""
    deployment = target.deployment
    kept = [one.number for one in (deployment.generation, deployment.previous) if one]
    number = max(deployment.last_number, *kept, 0) + 1
    # Machines that run at the same time must differ in their management addresses.
    while any((number - other) % MANAGEMENT == 0 for other in kept):
        number += 1
    versions = {one.name: one.version for one in image.containers}
    return Generation(
        number=number,
        image=image.id,
        mlflow=versions.get("mlflow", ""),
        mysql=versions.get("mysql", ""),
        revision=target.schema(image)["revision"],
    )


def version_numbers(version: str) -> list[int]:
    """Return a version as something that can be compared."""
    return [int(word) for word in version.split(".") if word.isdigit()]
