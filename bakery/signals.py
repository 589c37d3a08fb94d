"""Ctrl-C and SIGTERM while something is being cleaned up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Let an interrupt wait until a clean-up has ended; it comes right after.

    It waits for children, too, since a terminal sends Ctrl-C to all of them: they inherit what is
    blocked here. So nothing that is to live on may be started meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Interrupts do not come here.
        return
    came: list[int] = []
    # Blocking is not enough: the kernel may give a signal to another thread of ours.
    handlers = {one: signal.signal(one, lambda one, _: came.append(one)) for one in _INTERRUPTS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for one, handler in handlers.items():
            signal.signal(one, handler)
        if came:
            signal.raise_signal(came[0])
