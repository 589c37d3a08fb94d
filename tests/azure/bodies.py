"""Request bodies against the SDK's own typed dictionaries: what Azure would not parse is refused.

The dictionaries of `azure.mgmt.*.types` say in full what a body may hold. The SDK sends a dict as
it is, so a misspelt key, a snake_case name or a wrong word of an enum would pass there unseen.
"""

import datetime as dt
import enum
import functools
import importlib
import inspect
import types
import typing
from typing import Any

import typing_extensions

from tests.azure.refusal import bad_request

Kind = tuple[str, str]
"""Package and class, such as ("compute", "VirtualMachine")."""

# New words come each month; what there is, is the catalogue's to say.
_OPEN = {"VirtualMachineSizeTypes"}


def check(body: Any, kind: Kind) -> None:
    """Refuse a body that is not of a kind.

    Raises:
        Refusal: 400, with each thing that is wrong and where.
    """
    wrong = list(_wrong(body, _load(kind), kind[0], "body"))
    if wrong:
        raise bad_request("InvalidRequestContent", "; ".join(wrong))


def _load(kind: Kind) -> Any:
    package, name = kind
    module = "tests.azure.own_types" if package == "own" else f"azure.mgmt.{package}.types"
    return getattr(importlib.import_module(module), name)


@functools.cache
def _names(package: str) -> dict[str, Any]:
    """Return what the annotations of a package may refer to."""
    if package == "own":
        return {**vars(typing), **vars(importlib.import_module("tests.azure.own_types"))}
    found: dict[str, Any] = {**vars(typing), **vars(typing_extensions)}
    for module in ("models", "types"):
        found |= vars(importlib.import_module(f"azure.mgmt.{package}.{module}"))
    # `types.py` imports these only for type checkers.
    found["_models"] = importlib.import_module(f"azure.mgmt.{package}.models")
    return {**found, "datetime": dt}


@functools.cache
def _fields(kind: Any, package: str) -> dict[str, Any]:
    """Return the annotations of a typed dictionary, resolved."""
    found: dict[str, Any] = {}
    for one in reversed(getattr(kind, "__orig_bases__", ())):
        if typing_extensions.is_typeddict(one):
            found |= _fields(one, package)
    names = _names(package)
    for key, annotation in inspect.get_annotations(kind).items():
        found[key] = _resolve(annotation, names)
    return found


def _resolve(annotation: Any, names: dict[str, Any]) -> Any:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return eval(annotation, names)  # the SDK's own text
    return annotation


def _wrong(value: Any, kind: Any, package: str, where: str) -> typing.Iterator[str]:
    kind = _resolve(kind, _names(package))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated}:
        yield from _wrong(value, inner[0], package, where)
    elif origin in {typing.Union, types.UnionType}:
        yield from _wrong_union(value, inner, package, where)
    elif typing_extensions.is_typeddict(kind):
        yield from _wrong_fields(value, kind, package, where)
    elif origin is list:
        yield from _wrong_list(value, inner[0], package, where)
    elif origin is dict:
        yield from _wrong_dict(value, inner[1], package, where)
    elif not _plain(value, kind):
        yield f"{where}: {_shown(value)} is not {getattr(kind, '__name__', kind)}"


def _wrong_union(value: Any, inner: Any, package: str, where: str) -> typing.Iterator[str]:
    kinds = [_resolve(one, _names(package)) for one in inner]
    enums = [one for one in kinds if isinstance(one, type) and issubclass(one, enum.Enum)]
    if any(one.__name__ in _OPEN for one in enums):
        enums, kinds = [], [str]
    if enums:  # Union[str, SomeEnum] means the enum's words only
        words = [str(member.value) for one in enums for member in one]
        # Azure compares the words of its enums without case.
        if not isinstance(value, str) or value.lower() not in {word.lower() for word in words}:
            yield f"{where}: {_shown(value)} is none of {', '.join(words)}"
        return
    tried = [list(_wrong(value, one, package, where)) for one in kinds]
    if all(tried):
        yield from min(tried, key=len)


def _wrong_fields(value: Any, kind: Any, package: str, where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {_shown(value)} is not an object"
        return
    fields = _fields(kind, package)
    for key, annotation in fields.items():
        if typing.get_origin(annotation) is typing_extensions.Required and key not in value:
            yield f"{where}.{key}: missing"
    for key, found in value.items():
        if key not in fields:
            yield f"{where}.{key}: unknown"
        elif found is not None:
            yield from _wrong(found, fields[key], package, f"{where}.{key}")


def _wrong_list(value: Any, kind: Any, package: str, where: str) -> typing.Iterator[str]:
    if not isinstance(value, list):
        yield f"{where}: {_shown(value)} is not a list"
        return
    for number, found in enumerate(value):
        yield from _wrong(found, kind, package, f"{where}[{number}]")


def _wrong_dict(value: Any, kind: Any, package: str, where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {_shown(value)} is not an object"
        return
    for key, found in value.items():
        yield from _wrong(found, kind, package, f"{where}.{key}")


def _plain(value: Any, kind: Any) -> bool:
    if kind is Any or kind is object:
        return True
    if kind is bool:
        return isinstance(value, bool)
    if kind in {int, float}:
        allowed = (int,) if kind is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    # Times, durations and bytes are text in JSON.
    return isinstance(value, str)


def _shown(value: Any) -> str:
    return repr(value)[:60]
