"""What the command line's parser refuses: one line, the nearest valid name, exit code 2."""

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from invoke import Exit, ParseError, Program

from bakery import console
from bakery.errors import InputError

_UNKNOWN = re.compile(r"No idea what '(.*)' is!")
_NO_VALUE = re.compile(r"Flag <Argument: ([\w-]+).* needed value")
_MISSING = re.compile(r"'(.+)' did not receive required positional arguments: (.+)")


def refuse_clearly() -> None:
    """Make `invoke` itself refuse as every verb does; it would say so its own way and exit with 1.

    It has no setting for that, and its program is under way when it loads the verbs, so two of
    its steps are wrapped: where words are parsed, and where `--help VERB` is looked up.
    """
    for step in ("parse_tasks", "parse_cleanup"):
        setattr(Program, step, _guarded(getattr(Program, step)))


def _guarded(step: Callable[[Program], None]) -> Callable[[Program], None]:
    @functools.wraps(step)
    def guarded(program: Program) -> None:
        try:
            step(program)
        except ParseError as error:
            refusal = explain(error, program.parser.contexts)
            console.show_error(refusal)
            raise Exit(code=refusal.exit_code) from None

    return guarded


def explain(error: ParseError, verbs: Iterable[str]) -> InputError:
    """Say what is wrong with the words of a call, and what they may have meant."""
    context: Any = error.context
    verb = str(context.name) if context is not None and context.name else ""
    told, usage = str(error), f"./inv {verb} --help" if verb else "./inv --list"
    if found := _UNKNOWN.match(told):
        word = found[1]
        if not word.startswith("-"):
            return InputError(f"there is no verb {word}", hint=_nearest(word, verbs, usage))
        options = list(context.flags) if context is not None else []
        name = f"{verb} has no option {word}" if verb else f"{word}: options come after the verb"
        return InputError(name, hint=_nearest(word, options, usage))
    if found := _NO_VALUE.match(told):
        return InputError(f"{verb}: --{found[1]} needs a value", hint=usage)
    if found := _MISSING.match(told):
        names = found[2].replace("'", "")
        return InputError(f"{found[1]} needs to be told: {names}", hint=usage)
    return InputError(told, hint=usage)


def _nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise
