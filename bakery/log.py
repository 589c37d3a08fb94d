"""What a run says: steps with their times, notes and warnings, all on standard error.

Standard output carries only what a script would read. Off a terminal, a step is one line when it
ends; on a terminal, a spinner shows what is being done.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass
class Steps:
    """The steps of this process, in the order in which they ended."""

    timings: list[tuple[str, float]] = field(default_factory=list)
    depth: int = 0
    spinner: Status | None = None


_steps = Steps()


def timings(since: int = 0) -> list[tuple[str, float]]:
    """Return (title, seconds) of the steps that ended, from the given index on."""
    return _steps.timings[since:]


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show a step while it runs and its time when it ends, failed or not."""
    started = time.monotonic()
    indent = "  " * _steps.depth
    _show(f"{indent}{title}")
    _steps.depth += 1
    mark = "[red]failed[/red]"
    try:
        yield
        mark = "[green]done[/green]"
    finally:
        _steps.depth -= 1
        seconds = time.monotonic() - started
        _steps.timings.append((title, round(seconds, 2)))
        _hide()
        console.print(f"{indent}{title} … {mark} [dim]{seconds:.1f} s[/dim]")


def note(text: str) -> None:
    """Say one line that a user should know."""
    _print(text, style="")


def warn(text: str) -> None:
    """Say one line that a user should act on."""
    _print(f"warning: {text}", style="yellow")


def _print(text: str, style: str) -> None:
    console.print("  " * _steps.depth + text, style=style or None, markup=False)


def _show(text: str) -> None:
    if not console.is_terminal:
        return
    _hide()
    _steps.spinner = console.status(text)
    _steps.spinner.start()


def _hide() -> None:
    if _steps.spinner is not None:
        _steps.spinner.stop()
        _steps.spinner = None
