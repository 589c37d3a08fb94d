"""The whole test suite, in two parts: what is quick, then what needs machines.

The quick part runs first, alone: a typing error should not wait for a machine.
"""

import subprocess
import sys
import time

from bakery.errors import InputError
from bakery.log import note
from bakery.render import PROJECT

_QUICK = {"lint": ["tests/lint"], "unit": ["tests/unit"]}
# Two workers; with machines a file at a time, the longest first (tests/conftest.py).
_TWO = ["-n2"]
_MACHINES = [*_TWO, "--dist=loadfile", "--no-loadscope-reorder"]
_SLOW = {
    "slow": [*_MACHINES, "tests/slow"],
    "e2e": [*_MACHINES, "tests/e2e"],
    "azure": [*_MACHINES, "tests/azure"],
    "browser": ["tests/browser"],
    "matrix": ["--matrix", "-s", "-m", "matrix", "tests/e2e", "tests/azure"],
}
_ALL = [
    [*_TWO, "tests/lint", "tests/unit"],
    [*_MACHINES, "tests/slow", "tests/e2e", "tests/azure", "tests/browser"],
]


def run_suite(only: str) -> int:
    """Run the tests, all or one part; return the exit code.

    Raises:
        InputError: There is no such part.
    """
    parts = _QUICK | _SLOW
    if only and only not in parts:
        raise InputError(f"there are no {only} tests", hint=f"--only {'|'.join(parts)}")
    started = time.monotonic()
    code = 0
    for words in [parts[only]] if only else _ALL:
        code = _pytest(words)
        if code:
            break
    note(f"tests: {time.monotonic() - started:.0f} s")
    return code


def _pytest(words: list[str]) -> int:
    # On the terminal of the caller: pytest shows its own progress.
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--durations=25", *words], cwd=PROJECT, check=False
    ).returncode
