"""Rendering: a forgotten value is an error, and values stay what they are."""

import json
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError

from bakery import render as module
from bakery.render import render
from tests.unit.samples import ALL_SYMBOLS

NASTY = [
    ALL_SYMBOLS,
    "${path.cwd} %{ if true }",
    'a"b\\c',
    "ä€漢\n\t",
    "yes",
    "1.0",
    "# no comment",
    "",
]


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    return tmp_path / "t.j2"


def test_an_undefined_name_is_an_error(template: Path) -> None:
    template.write_text("a {{ there }} {{ forgotten }}")
    with pytest.raises(UndefinedError, match="forgotten"):
        render("t.j2", there=1)
    assert render("t.j2", there=1, forgotten="") == "a 1 "


@pytest.mark.parametrize("value", NASTY)
def test_values_survive_yaml(template: Path, value: str) -> None:
    template.write_text("key: {{ value | yaml }}\nlist: {{ [value, value] | yaml }}\n")
    found = yaml.safe_load(render("t.j2", value=value))
    assert found == {"key": value, "list": [value, value]}


def test_hcl_evaluates_nothing_in_a_value(template: Path) -> None:
    template.write_text("{{ value | hcl }}")
    assert render("t.j2", value="${a} %{b} $ {") == '"$${a} %%{b} $ {"'
    assert json.loads(render("t.j2", value='a"\\ü')) == 'a"\\ü'


def test_markup_is_not_escaped_and_the_last_line_ends(template: Path) -> None:
    template.write_text("{% if true %}\n{{ value }}\n{% endif %}\n")
    assert render("t.j2", value="<&'>") == "<&'>\n"
