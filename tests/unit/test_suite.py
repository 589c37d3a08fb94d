"""The test suite's own runner: which parts, in which order, and that a failure is one."""

import pytest

from bakery import suite
from bakery.errors import InputError
from bakery.render import PROJECT
from tests.conftest import LONG


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def note(words: list[str]) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(suite, "_pytest", note)
    return calls


def folders(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("tests/")]


def test_all_of_it_begins_with_what_is_quick(ran: list[list[str]]) -> None:
    assert suite.run_suite("") == 0
    assert folders(ran[0]) == ["tests/lint", "tests/unit"]
    called = {folder.partition("/test_")[0] for words in ran for folder in folders(words)}
    tested = {f"tests/{path.parent.name}" for path in PROJECT.glob("tests/*/test_*.py")}
    assert called == tested - {"tests/image"}, "those run in the machine, by `check`"
    assert all((PROJECT / name).exists() for words in ran for name in folders(words))


@pytest.mark.parametrize("part", ["lint", "unit", "slow", "e2e"])
def test_one_part_is_only_that(ran: list[list[str]], part: str) -> None:
    assert suite.run_suite(part) == 0
    assert [name for words in ran for name in folders(words)] == [f"tests/{part}"]


def test_an_unknown_part_is_refused(ran: list[list[str]]) -> None:
    with pytest.raises(InputError, match="there are no all tests") as refused:
        suite.run_suite("all")
    assert "lint|unit|slow|e2e" in refused.value.hint
    assert ran == []


def test_a_failure_ends_it_and_is_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def fail(words: list[str]) -> int:
        calls.append(words)
        return 3

    monkeypatch.setattr(suite, "_pytest", fail)
    assert suite.run_suite("") == 3
    assert len(calls) == 1, "no machine is booted for a typing error"


def test_pytest_s_code_is_handed_on() -> None:
    assert suite._pytest(["--version"]) == 0
    assert suite._pytest(["tests/unit/no-such-file"]) == 4


def test_the_files_that_are_put_first_are_there() -> None:
    there = {path.stem.removeprefix("test_") for path in PROJECT.glob("tests/*/test_*.py")}
    assert set(LONG) <= there
