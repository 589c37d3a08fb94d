"""What a deploy or a destroy would do, as rows for people; nothing is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bakery.state import Deployment


@dataclass(frozen=True)
class Change:
    """One thing that would be done."""

    action: Literal["create", "change", "delete", "stop"]
    what: str
    why: str = ""


def generation_changes(
    deployment: Deployment, image: str, why: str, name: Callable[[int], str]
) -> list[Change]:
    """Return what would become of the machines if an image were deployed; `why` may be empty."""
    rows, pending = [], deployment.pending
    current, previous = deployment.generation, deployment.previous
    if pending is not None:
        cut_off = f"a {pending.action} was cut off at the step {pending.step}"
        rows.append(Change("change", name(pending.generation.number), cut_off))
    if not why:
        return rows
    number = max(deployment.last_number, current.number if current else 0) + 1
    rows.append(Change("create", f"{name(number)} of image {image}", why))
    if current is not None:
        rows.append(Change("stop", name(current.number), "kept for a rollback"))
    if previous is not None:
        rows.append(Change("delete", name(previous.number), "the one before that"))
    return rows
