"""What of a fault matrix runs, and where its results go."""

import re
from pathlib import Path

import pytest

from tests.e2e.matrix import REPORT, chosen, write_report

DOC = """# Faults

## One

Words.

```text
old
```

## Two

```text
kept
```
"""


def test_a_slice_has_the_first_the_last_and_some_others() -> None:
    cases = [f"case {number}" for number in range(40)]
    found = chosen(cases, 6, whole=False)
    assert (len(found), found[0], found[-1]) == (6, "case 0", "case 39")
    assert found == sorted(found, key=cases.index)
    assert chosen(cases, 6, whole=False) == found, "the same commit, the same slice"
    assert chosen(cases, 6, whole=True) == cases
    assert chosen(cases[:3], 6, whole=False) == cases[:3]


def test_a_result_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "faults.md"
    path.write_text(DOC)
    write_report("One", ["a", "b"], path)
    assert path.read_text() == DOC.replace("old\n", "a\nb\n")
    with pytest.raises(ValueError, match="no section 'Three'"):
        write_report("Three", ["a"], path)


def test_every_matrix_has_its_section(tmp_path: Path) -> None:
    files = Path(__file__).parents[1].glob("e2e/test_*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    titles = re.findall(r'^(?:SECTION|TITLE) = "(.+)"$', text, re.MULTILINE)
    assert len(titles) >= 5
    for path in Path(__file__).parents[1].glob("azure/test_*.py"):
        titles += re.findall(r'"(Azure: .+)"', path.read_text(encoding="utf-8"))
    assert len(titles) >= 11
    copy = tmp_path / "faults.md"
    copy.write_bytes(REPORT.read_bytes())
    for title in titles:
        write_report(title, ["a line"], copy)
    assert copy.read_text(encoding="utf-8").count("```text\na line\n```\n") == len(titles)
