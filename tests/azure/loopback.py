"""A piece of loopback that nobody else on this host uses meanwhile."""

import random
import socket

_LOCK_PORT = 9


class Neighbourhood:
    """Addresses 127.77.N.2 and on; the first is held, so that no other process takes the same N."""

    def __init__(self) -> None:
        """Find one.

        Raises:
            RuntimeError: All are taken.
        """
        numbers = list(range(1, 255))
        random.shuffle(numbers)
        for number in numbers:
            held = socket.socket()
            try:
                held.bind((f"127.77.{number}.1", _LOCK_PORT))
            except OSError:
                held.close()
                continue
            self._held, self._number, self._last = held, number, 1
            return
        raise RuntimeError("127.77.0.0/16 is full")

    def address(self) -> str:
        """Return an address that was not returned before."""
        self._last += 1
        return f"127.77.{self._number}.{self._last}"

    def close(self) -> None:
        """Let others have it."""
        self._held.close()
