"""Processes that outlive a run: written down so that a later namesake is never taken for them."""

from pathlib import Path


def write_down(file: Path, process: int) -> None:
    """Remember a process by its number and its start."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(f"{process} {started_at(process)}", encoding="ascii")
    part.replace(file)


def alive(file: Path) -> int | None:
    """Return the number of the process that a file remembers, or None when it has ended."""
    try:
        number, start = file.read_text(encoding="ascii").split()
        process = int(number)
    except (OSError, ValueError):
        return None
    return process if started_at(process) == start else None


def started_at(process: int) -> str | None:
    """Return the start of a living process in clock ticks, which tells it from a namesake."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]
