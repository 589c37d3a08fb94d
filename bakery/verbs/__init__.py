"""What makes a function a verb: its errors are one line and a hint, with the documented codes."""

import functools
import inspect
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from invoke import Context, Exit, task

from bakery import console, errors

NAME = {
    "name": "the deployment (default: mlflow)",
    "target": "where it runs: local (default) or azure",
}
"""The options of a verb about a deployment."""


def verb(**texts: str) -> Callable[[Callable[..., None]], Any]:
    """Make a task whose errors are one line and a hint, with the documented exit codes."""

    def make(body: Callable[..., None]) -> Any:
        @functools.wraps(body)
        def guarded(context: Context, *given: Any, **named: Any) -> None:
            signal.signal(signal.SIGTERM, _interrupt)
            signal.signal(signal.SIGINT, _interrupt)
            try:
                body(context, *given, **named)
            except errors.BakeryError as error:
                console.show_error(error)
                raise Exit(code=error.exit_code) from None
            except KeyboardInterrupt:
                console.show_interrupt()
                raise Exit(code=130) from None
            except OSError as error:
                console.show_error(console.from_os(error))
                raise Exit(code=errors.FAILED) from None

        # `console` is the module here, so the verb has an underscore behind it.
        name = body.__name__.rstrip("_")
        repeated = [word for word, value in _defaults(body).items() if isinstance(value, list)]
        return task(help=texts, name=name, iterable=repeated)(guarded)

    return make


def _defaults(body: Callable[..., None]) -> dict[str, object]:
    return {name: one.default for name, one in inspect.signature(body).parameters.items()}


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def number(option: str, text: str) -> int:
    """Return a count that is at least one; `option` is what it was given to.

    Raises:
        InputError: It is none.
    """
    # Parsed here: invoke shows a traceback for `int` options.
    if not text.isdecimal() or int(text) < 1:
        raise errors.InputError(f"--{option} {text}: not a count", hint=f"such as --{option} 3")
    return int(text)
