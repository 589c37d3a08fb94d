"""One generation gives way to another: each step written down before it is done.

A run that is killed at any step leaves a note in the deployment's state; the next call goes on
where a client may have been served by the new generation, and else brings the old one back.
"""

import getpass
import os
import socket
from datetime import UTC, datetime

from bakery import checks, rotate
from bakery.errors import BakeryError, InputError
from bakery.log import note, step, warn
from bakery.manifest import Manifest
from bakery.state import Event, Generation, Pending, Step
from bakery.targets.local import LocalTarget


def replace(target: LocalTarget, image: Manifest) -> None:
    """Serve from a new generation; one that does not become ready gives way to the old one.

    Raises:
        BakeryError: It did not become ready; the old one serves again.
    """
    _go(target, Pending(action="deploy", generation=target.next_generation(image), by=whoever()))


def roll_back(target: LocalTarget) -> None:
    """Serve from the kept generation again, with the data as they are now.

    Raises:
        InputError: There is none, or it cannot read the data.
        BakeryError: It did not become ready; what served before serves again.
    """
    generation = _to_go_back_to(target)
    _go(target, Pending(action="rollback", generation=generation, by=whoever()))


def check_image(target: LocalTarget, image: Manifest) -> None:
    """Refuse an image that cannot read the deployment's data.

    Raises:
        InputError: Its MySQL is older, or its MLflow does not know the schema.
    """
    current = target.deployment.generation
    if current is None or image.id == current.image:
        return
    versions = {one.name: one.version for one in image.containers}
    if current.mysql and _numbers(versions["mysql"]) < _numbers(current.mysql):
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


def recover(target: LocalTarget) -> None:
    """Bring a replacement to its end that was cut off; the network must be up.

    Raises:
        BakeryError: Neither generation could be made to serve.
    """
    pending = target.deployment.pending
    if pending is None:
        target.tidy()
        return
    number = pending.generation.number
    warn(f"a {pending.action} was cut off: generation {number}, step {pending.step}")
    reason = "cut off"
    if pending.step == "boot" and _may_have_served(target, pending.generation):
        try:
            _boot(target, pending.generation)
        except BakeryError as error:
            reason = f"cut off, then: {error}"
        else:
            _commit(target, pending)
            return
    _undo(target, pending, reason)


def whoever() -> str:
    """Return who runs this, as user@host."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def wait_ready(target: LocalTarget, generation: Generation) -> None:
    """Wait until a generation serves over HTTPS.

    Raises:
        BakeryError: It does not; with the end of its log.
    """
    with step("Ready: an authenticated call that reads the database"):
        try:
            checks.wait_ready(target.server(generation), deadline=target.settings.ready_seconds)
        except BakeryError as error:
            error.tail = error.tail or target.journal(generation)
            error.log = error.log or target.spec(generation).console
            raise


def _go(target: LocalTarget, pending: Pending) -> None:
    """Do all steps; whatever goes wrong, what served before serves again."""
    pending = _mark(target, pending, "create")
    try:
        if pending.action == "deploy":
            with step("Create the machine"):
                told = target.create_machine(pending.generation)
            pending = pending.model_copy(update={"environment_digest": told})
        pending = _quiesce(target, pending)
        pending = _mark(target, pending, "boot")
        _boot(target, pending.generation)
    except BaseException as error:
        _give_way(target, pending, error)
        raise
    _commit(target, pending)


def _quiesce(target: LocalTarget, pending: Pending) -> Pending:
    """Stop what serves and copy the data disk as it was left."""
    before = target.deployment.generation
    pending = _mark(target, pending, "stop")
    if before is None:
        return pending
    if target.running(before):
        with step(f"Stop generation {before.number}"):
            target.stop(before)
    pending = _mark(target, pending, "snapshot")
    target.data.take_snapshot()
    return pending


def _boot(target: LocalTarget, generation: Generation) -> None:
    with step(f"Boot generation {generation.number}"):
        target.boot(generation)
    wait_ready(target, generation)


def _mark(target: LocalTarget, pending: Pending, at: Step) -> Pending:
    """Write down what is about to be done."""
    pending = pending.model_copy(update={"step": at})
    deployment = target.deployment
    deployment.pending = pending
    deployment.last_number = max(deployment.last_number, pending.generation.number)
    target.folder.save(deployment)
    return pending


def _commit(target: LocalTarget, pending: Pending) -> None:
    """Make the new generation the one that counts, in one write; then clear away."""
    deployment, rolled_back = target.deployment, pending.action == "rollback"
    before = deployment.generation
    deployment.ended("rolled back" if rolled_back else "replaced")
    deployment.generation = pending.generation
    deployment.previous = None if rolled_back else before
    deployment.data_disk_served = True
    if pending.environment_digest:
        deployment.environment_digest = pending.environment_digest
    _end(target, pending, "serving")
    if not rolled_back:
        target.data.undone.unlink(missing_ok=True)
    if rolled_back or target.secrets.previous_storage_key:
        rotate.apply(target, pending.generation)


def _end(target: LocalTarget, pending: Pending, outcome: str) -> None:
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
    target.folder.save(deployment)
    target.tidy()


def _give_way(target: LocalTarget, pending: Pending, error: BaseException) -> None:
    """Undo after an error; if that fails too, the next call tries again."""
    reason = str(error) or "interrupted"
    try:
        _undo(target, target.deployment.pending or pending, reason, settings=True)
    except BakeryError as failure:
        before = target.deployment.generation
        number = before.number if before else pending.generation.number
        warn(f"generation {number} does not start: {failure}; ./inv start tries again")


def _undo(target: LocalTarget, pending: Pending, reason: str, *, settings: bool = False) -> None:
    """Remove what never served and let the generation before serve again.

    The caller's `settings` were meant for the new generation. The state has their secrets
    already, so the old one is told; a later call may lack them and leaves the rest as it is.
    """
    untouched = pending.step == "create"
    pending = _mark(target, pending, "undo")
    before = target.deployment.generation
    target.stop(pending.generation)
    if before:
        if not untouched:
            target.stop(before)  # it may be on its way down
        _bring_back(target, before, settings=settings)
    _end(target, pending, f"undone: {reason}")
    if before:
        note(f"generation {before.number} serves again")


def _bring_back(target: LocalTarget, before: Generation, *, settings: bool) -> None:
    if not target.running(before):
        warn(f"generation {before.number} is started again")
        if target.data.set_back():
            warn(
                "a migration of the data had begun: the data disk is as it was before;"
                f" what became of it is kept as {target.data.undone}"
            )
        with step(f"Boot generation {before.number}"):
            target.boot(before)
    rotate.apply(target, before, settings=settings)
    wait_ready(target, before)


def _may_have_served(target: LocalTarget, generation: Generation) -> bool:
    """Return whether clients may have talked to a generation that was never committed.

    One that runs may serve right now. One that does not matters only if the old generation could
    not read what it left.
    """
    return target.running(generation) or (
        target.deployment.generation is not None and target.data.changed()
    )


def _to_go_back_to(target: LocalTarget) -> Generation:
    current, previous = target.deployment.generation, target.deployment.previous
    target.server()
    if current is None or previous is None or not target.spec(previous).disk.exists():
        raise InputError(
            f"{target.deployment.name} has no generation to go back to",
            hint="./inv history shows what ran; ./inv deploy --image ID deploys any image",
        )
    if not current.revision or current.revision != previous.revision:
        raise InputError(
            f"generation {previous.number} (MLflow {previous.mlflow}) reads schema revision"
            f" {previous.revision or 'unknown'}, the data are at {current.revision or 'unknown'}:"
            " MLflow has no way back",
            hint="going back means losing what is newer: a backup of before has to be restored",
        )
    if _numbers(previous.mysql) < _numbers(current.mysql):
        raise InputError(
            f"generation {previous.number} has MySQL {previous.mysql}, older than the data"
            f" ({current.mysql}): MySQL has no way back",
            hint="going back means losing what is newer: a backup of before has to be restored",
        )
    return previous


def _numbers(version: str) -> list[int]:
    return [int(word) for word in version.split(".") if word.isdigit()]
