"""Cache entries are there whole or not at all."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from bakery.errors import BakeryError
from bakery.store import build, digest, tree_digest


def _fill(part: Path) -> None:
    (part / "file").write_text("whole", encoding="utf-8")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    entry = tmp_path / "cache" / "entry"
    assert (build(entry, _fill) / "file").read_text(encoding="utf-8") == "whole"

    def refuse(_part: Path) -> None:
        raise AssertionError("it was there")

    assert build(entry, refuse) == entry


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [(errno.ENOSPC, BakeryError, "no space left in"), (errno.EIO, OSError, "output error")],
)
def test_a_failed_entry_is_not_there(
    tmp_path: Path, code: int, kind: type[Exception], said: str
) -> None:
    def fail(part: Path) -> None:
        _fill(part)
        raise OSError(code, os.strerror(code))

    with pytest.raises(kind, match=said):
        build(tmp_path / "entry", fail)
    assert not (tmp_path / "entry").exists()
    assert not list(tmp_path.glob("*.part"))


def test_what_a_killed_build_left_goes(tmp_path: Path) -> None:
    left = tmp_path / ".entry.part"
    left.mkdir()
    (left / "half").touch()
    entry = build(tmp_path / "entry", _fill)
    assert [path.name for path in entry.iterdir()] == ["file"]
    assert not left.exists()


def test_two_who_want_the_same_make_it_once(tmp_path: Path) -> None:
    made = []

    def slowly(part: Path) -> None:
        made.append(part)
        time.sleep(0.1)
        _fill(part)

    threads = [threading.Thread(target=build, args=(tmp_path / "entry", slowly)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_digests_tell_names_bytes_and_modes(tmp_path: Path) -> None:
    def of(name: str, content: str, mode: int) -> str:
        folder = tmp_path / digest([name, content, mode])[7:] / "tree"
        folder.mkdir(parents=True)
        (folder / name).write_text(content, encoding="utf-8")
        (folder / name).chmod(mode)
        return tree_digest([folder], base=folder)

    found = {of("a", "x", 0o644), of("b", "x", 0o644), of("a", "y", 0o644), of("a", "x", 0o755)}
    assert len(found) == 4
    # Another checkout has another folder and perhaps another umask.
    assert of("a", "x", 0o600) in found
