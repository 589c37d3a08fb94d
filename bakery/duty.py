"""What is asked of a machine on its way into service and out of it; it answers in JSON."""

import json
from typing import Any

from bakery.errors import BakeryError
from bakery.run import last_lines
from bakery.state import Generation
from bakery.targets.base import Answer, Target

_TOOL = "/usr/lib/mlflow-bakery/duty"
_UNITS = ("mlflow.service", "mlflow-data-disk.service", "mlflow-standby.service")


def ask(target: Target, generation: Generation, verb: str, *, timeout: float = 180) -> Any:
    """Run one verb of the machine's `duty` and return what it answers; `timeout` in seconds.

    Raises:
        BakeryError: It fails, or the machine does not answer.
    """
    done = target.execute(generation, [_TOOL, verb], timeout=timeout)
    if done.code != 0:
        raise BakeryError(
            f"generation {generation.number} does not {verb}: code {done.code}",
            hint="its own story: ./inv logs --service machine",
            tail=done.err.strip(),
        )
    return json.loads(done.out)


def fault(target: Target, generation: Generation) -> str:
    """Return why the machine's server does not start; nothing while it may, or is not reached."""
    words = ["systemctl", "show", "--property=NRestarts,SubState", _UNITS[0]]
    try:
        said = target.execute(generation, words, timeout=15)
    except BakeryError:
        return ""
    # It fails when the migration does, and is then tried again for ever.
    lines = set(said.out.split())
    failed = "SubState=auto-restart" in lines or "NRestarts=0" not in lines
    return "its server does not start" if said.code == 0 and failed else ""


def journal(target: Target, generation: Generation) -> str:
    """Return the end of what the machine's server said, for an error; else of its console."""
    words = ["journalctl", "--no-pager", "--lines=20", "--output=cat"]
    words += [f"--unit={unit}" for unit in _UNITS]
    try:
        said = target.execute(generation, words, timeout=15)
    except BakeryError:
        said = Answer(255, "", "")
    return said.out.strip() if said.code == 0 else last_lines(target.console(generation))
