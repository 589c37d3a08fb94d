"""The request log: what was asked and answered, without secrets."""

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

_SECRET = {
    "customdata", "userdata", "adminpassword", "keys", "value", "protectedparameters",
    "access_token", "client_secret", "client_assertion", "sharedkey", "script",
    "serialconsolelogbloburi", "commandtoexecute",
}  # fmt: skip


@dataclass
class Entry:
    """One request and its answer."""

    number: int
    method: str
    path: str
    version: str
    body: Any
    status: int = 0
    """0: the connection was dropped or the caller killed."""
    answer: Any = None
    fault: str = ""
    began: float = field(default_factory=time.time)
    seconds: float = 0.0

    def __str__(self) -> str:
        note = f"  ({self.fault})" if self.fault else ""
        code = self.answer.get("error", {}).get("code") if isinstance(self.answer, dict) else None
        reason = f" {code}" if code else ""
        return f"{self.number:4} {self.method:6} {self.path} {self.status}{reason}{note}"


class Journal:
    """All entries, in the order in which their requests came."""

    def __init__(self, *, echo: bool = False) -> None:
        self.entries: list[Entry] = []
        self._echo = echo
        self._lock = threading.Lock()

    def begin(self, method: str, path: str, version: str, body: Any) -> Entry:
        with self._lock:
            entry = Entry(len(self.entries) + 1, method, path, version, without_secrets(body))
            self.entries.append(entry)
            return entry

    def end(self, entry: Entry, status: int, answer: Any) -> None:
        entry.status, entry.answer = status, without_secrets(answer)
        entry.seconds = round(time.time() - entry.began, 4)
        if self._echo:
            print(entry, flush=True)

    def clear(self) -> None:
        with self._lock:
            self.entries.clear()

    def calls(self, *methods: str) -> list[str]:
        """Return what was asked, as "PUT /subscriptions/...", of some methods or of all."""
        return [
            f"{one.method} {one.path}"
            for one in self.entries
            if not methods or one.method in methods
        ]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.entries]


def without_secrets(value: Any) -> Any:
    """Return a copy with the values of secret keys struck out."""
    if isinstance(value, dict):
        return {
            key: "…" if key.lower() in _SECRET and found else without_secrets(found)
            for key, found in value.items()
            if not (key.lower() == "value" and isinstance(found, list))
        } | (
            {"value": without_secrets(value["value"])}
            if isinstance(value.get("value"), list)
            else {}
        )
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    return value
