"""An interrupt waits for a clean-up, in this process and in its children."""

import os
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from bakery import signals
from bakery.run import run


@pytest.fixture(autouse=True)
def as_the_verbs_do() -> Iterator[None]:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    kept = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_clean_up_is_done_to_its_end(number: signal.Signals) -> None:
    done = []

    def clean_up() -> None:
        with signals.held_back():
            os.kill(os.getpid(), number)
            done.append(run(["sh", "-c", f"kill -{number:d} $$; echo child"], check=False).stdout)
            done.append("parent")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["child\n", "parent"]


def test_afterwards_an_interrupt_comes_at_once() -> None:
    done = []

    def work() -> None:
        with signals.held_back():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []
