"""Read a rendered recipe, and refuse what Packer or its Azure plugin would not know."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

_MARK = "__is_block__"
KNOWN = tomllib.loads(Path(__file__).with_name("options.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Block:
    """A block of HCL: its type, its labels, what is set in it, the blocks in it."""

    kind: str
    labels: tuple[str, ...]
    values: dict[str, Any]
    blocks: tuple["Block", ...]

    @property
    def type(self) -> str:
        """The name under which options.toml has it, such as "provisioner shell"."""
        labelled = self.kind in {"source", "provisioner", "post-processor"}
        return f"{self.kind} {self.labels[0]}" if labelled and self.labels else self.kind

    def all(self, kind: str) -> list["Block"]:
        return [one for one in self.blocks if one.kind == kind]


def read(text: str) -> list[Block]:
    """Return the blocks of a file in HCL.

    Raises:
        Exception: It is no HCL.
    """
    return list(_blocks(hcl2.loads(text)))


def problems(blocks: list[Block]) -> list[str]:
    """Return everything in a recipe that is not in options.toml."""
    return [found for block in blocks for found in _problems(block)]


def _problems(block: Block) -> Iterator[str]:
    known = KNOWN.get(block.type)
    if not isinstance(known, dict):
        yield f"Unsupported block type: {block.type}"
        return
    for name, value in block.values.items():
        if name not in known["attributes"]:
            yield f'Unsupported argument: "{name}" is not expected in {block.type}'
        words = known.get("enums", {}).get(name)
        if words is not None and value not in words:
            yield f'Invalid value of "{name}" in {block.type}: {value}, not one of {words}'
    for inner in block.blocks:
        if inner.kind not in known.get("blocks", []):
            yield f"Unsupported block type: {inner.kind} in {block.type}"
        else:
            yield from _problems(inner)


def _blocks(parsed: dict[str, Any]) -> Iterator[Block]:
    for kind, found in parsed.items():
        if isinstance(found, list):
            for body in found:
                yield from _block(kind, (), body)


def _block(kind: str, labels: tuple[str, ...], body: Any) -> Iterator[Block]:
    if not isinstance(body, dict):
        return
    if not body.pop(_MARK, False):
        for label, inner in body.items():
            yield from _block(kind, (*labels, _plain(label)), inner)
        return
    inner = {name: value for name, value in body.items() if _holds_blocks(value)}
    set_here = [name for name in body if name not in inner and not name.startswith("__")]
    values = {name: _plain(body[name]) for name in set_here}
    yield Block(kind, labels, values, tuple(_blocks(inner)))


def _holds_blocks(value: Any) -> bool:
    return isinstance(value, list) and any(_is_block(one) for one in value)


def _is_block(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return bool(value.get(_MARK)) or any(_is_block(one) for one in value.values())


def _plain(value: Any) -> Any:
    """Return a value without the quotes and escapes of HCL's strings."""
    if isinstance(value, str):
        if not value.startswith('"'):
            return value
        text = str(json.loads(value))
        return text.replace("$${", "${").replace("%%{", "%{")
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {_plain(name): _plain(one) for name, one in value.items() if name != _MARK}
    return value
