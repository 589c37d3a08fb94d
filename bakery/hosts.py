"""The one marked line of a deployment in /etc/hosts: a URL with a bare address sends no SNI."""

import fcntl
from collections.abc import Callable
from pathlib import Path

from bakery.errors import InputError

_FILE = Path("/etc/hosts")
_MARK = "# mlflow-bakery"


def claim(hostname: str, address: str, owner: str) -> None:
    """Let a name resolve to an address on this host; replaces the owner's earlier line.

    Raises:
        InputError: Another deployment, or a line of the user's, has that name.
    """

    def change(lines: list[str]) -> list[str]:
        kept = [line for line in lines if not line.endswith(f"{_MARK} {owner}")]
        taken = [line for line in kept if hostname in line.partition("#")[0].split()[1:]]
        if taken:
            raise InputError(
                f"{hostname} has another line in {_FILE}: {taken[0]}",
                hint="choose another --name or hostname, or remove that line",
            )
        return [*kept, f"{address} {hostname} {_MARK} {owner}"]

    _rewrite(change)


def release(owner: str) -> None:
    """Remove the owner's line; nothing to do when it is gone."""
    _rewrite(lambda lines: [line for line in lines if not line.endswith(f"{_MARK} {owner}")])


def _rewrite(change: Callable[[list[str]], list[str]]) -> None:
    # In place and under a lock: in containers the file is a bind mount and cannot be renamed over.
    with _FILE.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read()
        after = "".join(f"{line}\n" for line in change(before.splitlines()))
        if after != before:
            file.seek(0)
            file.write(after)
            file.truncate()
