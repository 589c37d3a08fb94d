"""One thing that was looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What a look at a prerequisite came to."""

    name: str
    detail: str
    ok: bool = True
    fix: str = ""
    """The command or setting that mends it, when it is not."""
    note: str = ""
    """What one should know though it is no fault."""
