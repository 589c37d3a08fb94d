"""The documents and the program tell the same."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from bakery.azure.settings import AzureSettings
from bakery.checks import _AT_THE_DOOR
from bakery.settings import BLOG_NAMES, Settings

PROJECT = Path(__file__).parents[2]
DOCS = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
REFERENCE = (PROJECT / "docs" / "reference.md").read_text(encoding="utf-8")


def settings_table() -> str:
    rows = ["| setting | default | other name | meaning |", "| --- | --- | --- | --- |"]
    # What only one target reads comes last.
    special = AzureSettings.model_fields.keys()
    for name, field in sorted(Settings.model_fields.items(), key=lambda one: one[0] in special):
        default = "" if field.default in {None, PydanticUndefined} else f"`{field.default}`"
        other = BLOG_NAMES.get(name, "")
        rows.append(f"| `{name}` | {default} | {other and f'`{other}`'} | {field.description} |")
    return "\n".join(rows)


def test_reference_has_the_settings() -> None:
    wanted = settings_table()
    assert wanted in REFERENCE, f"docs/reference.md should have:\n{wanted}"


def test_example_has_every_setting_with_its_default() -> None:
    text = (PROJECT / "bakery.example.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    lines = re.findall(r"^#([a-z_]+) =(.*)$", text, re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(Settings.model_fields)
    given = tomllib.loads("\n".join(f"{name} ={value}" for name, value in lines if value.strip()))
    defaults = {
        name: str(field.default) if isinstance(field.default, Path) else field.default
        for name, field in Settings.model_fields.items()
        if field.default is not None
    }
    assert given == defaults


def test_reference_has_every_verb_and_every_check() -> None:
    places = [PROJECT / "tasks.py", *(PROJECT / "bakery" / "verbs").glob("*.py")]
    tasks = "".join(path.read_text(encoding="utf-8") for path in places)
    verbs = re.findall(r"^@verb\(.*?\)\ndef (\w+?)_?\(", tasks, re.MULTILINE | re.DOTALL)
    assert len(verbs) > 10
    rows = re.findall(r"^\| `(\w+)` \|", REFERENCE, re.MULTILINE)
    assert [verb for verb in verbs if verb not in rows] == []
    assert [name for name, _ in _AT_THE_DOOR if f"| {name} |" not in REFERENCE] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file
        assert found.exists(), target
        if found.suffix != ".md":
            continue
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
        assert not anchor or anchor in anchors, target


def test_links_exist_at_all() -> None:
    assert sum("](" in path.read_text(encoding="utf-8") for path in DOCS) > 2
