"""What a check found, and how checks are run: each one by itself, none stops the next."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bakery.errors import BakeryError


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    ok: bool
    detail: str
    seconds: float


class CheckFailed(Exception):  # noqa: N818 - it reads as what happened
    """A check found something that is not as it must be; the message says what."""


def measure(name: str, check: Callable[[], str]) -> CheckResult:
    """Run one check; what it returns, or the reason of its failure, is the detail."""
    started = time.monotonic()
    try:
        ok, detail = True, check()
    # A server that cannot be reached or trusted shows as an OSError of requests, ssl or socket.
    except (CheckFailed, BakeryError, OSError) as failure:
        ok, detail = False, one_line(failure)
    return CheckResult(name, ok, detail, round(time.monotonic() - started, 3))


def one_line(failure: BaseException) -> str:
    """Return what an exception says, shortened to one line of a table."""
    return shorten(str(failure)) or type(failure).__name__


def shorten(text: str) -> str:
    """Return a text as one line of a table, with its begin and, where the cause is, its end."""
    line = " ".join(text.split())
    return line if len(line) <= 240 else f"{line[:100]} ... {line[-135:]}"


def expect(truth: object, otherwise: str) -> None:
    """Fail the check with a message unless something is true.

    Raises:
        CheckFailed: It is not.
    """
    if not truth:
        raise CheckFailed(otherwise)
