"""Runs the commands of a document as a reader types them: in its order, in one shell."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bakery import PROJECT, Bakery

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "\x1e"
# The document names the machine of its writer; here is another one.
_ELSEWHERE = re.compile(r"ssh://\S+")
_OURS = '$(./inv status --json | sed -n \'s/.*"docker_host": "\\(.*\\)".*/\\1/p\')'


@dataclass(frozen=True)
class Walk:
    """What came of it."""

    typed: list[str]
    said: list[str]
    """What each command has printed, as far as it came to it."""
    code: int

    def __str__(self) -> str:
        pairs = zip(self.typed, self.said, strict=False)
        return "\n".join(f"$ {typed}\n{said}" for typed, said in pairs)


def commands(document: Path) -> list[str]:
    """Return what follows a `$` in the console blocks."""
    return [
        line.removeprefix("$ ")
        for language, text in _BLOCK.findall(document.read_text(encoding="utf-8"))
        if language == "console"
        for line in text.splitlines()
        if line.startswith("$ ")
    ]


def write_files(document: Path, folder: Path) -> None:
    """Write the Python blocks that begin with a file's name."""
    for language, text in _BLOCK.findall(document.read_text(encoding="utf-8")):
        named = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and named:
            (folder / named[1]).write_text(text, encoding="utf-8")


def walk(typed: list[str], bakery: Bakery, folder: Path) -> Walk:
    """Run commands in one shell until one fails, in a folder that stands for a clone."""
    start = folder / "inv"
    start.write_text(f'#!/bin/sh\nexec {PROJECT / "inv"} "$@"\n')
    start.chmod(0o700)
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(PROJECT / "examples")
    lines = ["set -e", "exec 2>&1"]
    for command in typed:
        lines += [f"printf '{_MARK}'", _ELSEWHERE.sub(lambda _: _OURS, command)]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder, env={**bakery.environment, "HOME": str(folder), "PATH": os.environ["PATH"]},
        check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=900,
    )  # fmt: skip
    return Walk(typed, done.stdout.split(_MARK)[1:], done.returncode)
