"""The command line of the backups on the machine: one thing each, its result as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from mlflow_bakery_machine import backup, restore
from mlflow_bakery_machine.backup import Places
from mlflow_bakery_machine.catalogue import RefusedError
from mlflow_bakery_machine.files import MachineError

REFUSED = 2

_LOOKS: Dict[str, Callable[[Places], Any]] = {"list": backup.list_all, "last": backup.last}
_WORKS: Dict[str, Callable[[Places, argparse.Namespace], Any]] = {
    "daily": lambda places, _: backup.daily(places),
    "make": lambda places, given: backup.make(places, keep=given.keep),
    "fetch": lambda places, given: restore.fetch(places, given.name, anew=given.from_blob),
    "load": lambda places, given: restore.load(places, given.name, drill=given.drill),
    "put-in-place": lambda places, given: restore.put_in_place(
        places, given.name, replace=given.replace_data
    ),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Do one thing with backups and print its result as JSON; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(json.dumps(_do(options, Places())))
    except RefusedError as refusal:
        print("REFUSED: {}".format(refusal), file=sys.stderr)
        return REFUSED
    except (MachineError, OSError) as error:
        print("mlflow-bakery: {}".format(error), file=sys.stderr)
        return 1
    return 0


def _do(options: argparse.Namespace, places: Places) -> Any:
    if options.verb in _LOOKS:
        return _LOOKS[options.verb](places)
    with backup.locked(places):
        return _WORKS[options.verb](places, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    verbs.add_parser("last")
    verbs.add_parser("daily")
    verbs.add_parser("make").add_argument("--keep", default="", help="the reason")
    named: List[Tuple[str, str]] = [
        ("fetch", "--from-blob"),
        ("load", "--drill"),
        ("put-in-place", "--replace-data"),
    ]
    for verb, flag in named:
        added = verbs.add_parser(verb)
        added.add_argument("name")
        added.add_argument(flag, action="store_true")
    return parser
