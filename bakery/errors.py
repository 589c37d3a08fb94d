"""The errors a user sees: one line, a hint, an exit code."""

from pathlib import Path

DONE, FAILED, REFUSED = 0, 1, 2


class BakeryError(Exception):
    """Something failed while it was being done; exit code 1.

    `hint` says what to do next, `log` is the file with the whole story and `tail` its part that
    matters, shown below the message.
    """

    exit_code = FAILED

    def __init__(
        self, message: str, *, hint: str = "", log: Path | None = None, tail: str = ""
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log
        self.tail = tail


class InputError(BakeryError):
    """Bad input or a missing prerequisite: nothing has been created; exit code 2."""

    exit_code = REFUSED
