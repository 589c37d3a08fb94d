"""Fault matrices: a slice of each in an ordinary run, all of it with `./inv test --only matrix`."""

import hashlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tests.e2e.bakery import PROJECT

REPORT = PROJECT / "docs" / "faults.md"
Case = TypeVar("Case")


def chosen(cases: Sequence[Case], size: int, *, whole: bool) -> list[Case]:
    """Return all cases, or so many of them: the first, the last, and more chosen by the commit."""
    if whole or len(cases) <= size:
        return list(cases)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, check=True, text=True, capture_output=True
    ).stdout.strip()

    def rank(number: int) -> str:
        return hashlib.sha256(f"{commit} {cases[number]}".encode()).hexdigest()

    middle = sorted(range(1, len(cases) - 1), key=rank)[: size - 2]
    return [cases[number] for number in sorted({0, len(cases) - 1, *middle})]


def write_report(section: str, lines: Sequence[str], path: Path = REPORT) -> None:
    """Keep the result of a whole matrix in the docs, as the block of its section.

    Raises:
        ValueError: There is no such section with a block.
    """
    text = path.read_text(encoding="utf-8")
    block = re.compile(
        rf"(^## {re.escape(section)}$(?:(?!^## ).)*?^```text\n)(.*?)(^```$)",
        re.MULTILINE | re.DOTALL,
    )
    if not block.search(text):
        raise ValueError(f"{path} has no section '{section}' with a block")
    body = "".join(f"{line}\n" for line in lines)
    path.write_text(block.sub(lambda m: m[1] + body + m[3], text, count=1), encoding="utf-8")
