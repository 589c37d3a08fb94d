"""Faults at any call: answers that are not what was asked for, and callers that die."""

import os
import re
import signal
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.azure.refusal import Refusal
from tests.azure.routing import Call

ACTIONS = ("answer", "drop", "fail", "slow", "delay", "kill")


@dataclass
class Fault:
    """What happens at the `nth` matching call (and the `times - 1` after it)."""

    action: str
    """`answer`: with `status` and `code`. `drop`: close the connection. `fail`: the long-running
    operation fails with `code`. `slow`: it takes `seconds`. `delay`: the answer does. `kill`: the
    caller's process dies."""
    method: str = ".*"
    path: str = ".*"
    nth: int = 1
    times: int = 1
    after: bool = False
    """Do what was asked first, then drop the connection or kill."""
    status: int = 500
    code: str = "InternalServerError"
    message: str = "injected"
    retry_after: int | None = None
    seconds: float = 0.0
    seen: int = field(default=0)
    done: int = field(default=0)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action}: not one of {', '.join(ACTIONS)}")

    def matches(self, call: Call) -> bool:
        """Count a call and return whether this is one where it happens."""
        if not re.fullmatch(self.method, call.method, re.IGNORECASE):
            return False
        if not re.search(self.path, call.path, re.IGNORECASE):
            return False
        self.seen += 1
        hit = self.nth <= self.seen < self.nth + self.times
        self.done += hit
        return hit

    @property
    def refusal(self) -> Refusal:
        """The answer in the place of the real one."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return Refusal(self.status, self.code, self.message, headers=headers)


class Faults:
    """The faults that wait for their call."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._planned = threading.local()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def at(self, call: Call) -> list[Fault]:
        """Return what happens at this call; each call is asked about once."""
        with self._lock:
            found = [fault for fault in self._faults if fault.matches(call)]
        self._planned.faults = found
        return found

    def failing_operation(self) -> Refusal | None:
        """Return why the operation that this thread's call begins will fail, if it will."""
        fault = self._of_operation("fail")
        return None if fault is None else Refusal(409, fault.code, fault.message)

    def operation_seconds(self) -> float:
        """Return how much longer the operation that this thread's call begins will take."""
        fault = self._of_operation("slow")
        return 0.0 if fault is None else fault.seconds

    def _of_operation(self, action: str) -> Fault | None:
        found: list[Fault] = getattr(self._planned, "faults", [])
        return next((one for one in found if one.action == action), None)


def kill_peer(port: int, ours: int) -> None:
    """Kill the process that is connected from a port of this host to one of ours, and no other.

    Raises:
        RuntimeError: There is none.
    """
    inode = _inode(port, ours)
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(entry.readlink()) != f"socket:[{inode}]":
                continue
        except OSError:
            continue
        process = int(entry.parts[2])
        if process != os.getpid():
            os.kill(process, signal.SIGKILL)
            return
    raise RuntimeError(f"nobody is connected from port {port}")


def _inode(port: int, ours: int) -> str:
    # Both ends: a port may also be that of connections to other addresses, old ones among them.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            ends = [int(end.rpartition(":")[2], 16) for end in fields[1:3]]
            if ends == [port, ours] and fields[9] != "0":
                return fields[9]
    return "none"
