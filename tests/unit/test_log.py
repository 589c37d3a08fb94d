"""What a run says off a terminal: one line a step, on standard error only."""

import re

import pytest

from bakery import log

Capture = pytest.CaptureFixture[str]


def test_a_step_is_one_line_with_its_time(capsys: Capture) -> None:
    with log.step("Base"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Base … done \d+\.\d s\n", err)


def test_a_failed_step_says_so_and_so_do_those_around_it(capsys: Capture) -> None:
    def work() -> None:
        with log.step("Bake"):
            with log.step("Base"):
                pass
            with log.step("Boot"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    lines = capsys.readouterr().err.splitlines()
    said = [line.rpartition(" … ") for line in lines]
    assert [title for title, _, _ in said] == ["  Base", "  Boot", "Bake"]
    assert [result.split()[0] for _, _, result in said] == ["done", "failed", "failed"]
    with log.step("After"):
        pass
    assert capsys.readouterr().err.startswith("After"), "the indentation is back"


def test_steps_are_remembered_in_the_order_of_their_ends() -> None:
    first = len(log.timings())
    with log.step("outer"), log.step("inner"):
        pass
    assert [title for title, _ in log.timings(first)] == ["inner", "outer"]


def test_notes_are_whole_lines_and_never_markup(capsys: Capture) -> None:
    long = "x" * 300
    with log.step("Step"):
        log.note(f"[red]{long}[/red]")
        log.warn("careful")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"  [red]{long}[/red]", "  warning: careful"]
