"""Environments are made once, whole or not at all, and again when their lock changes."""

import subprocess
from pathlib import Path

import pytest

from bakery import virtualenv
from bakery.errors import BakeryError, InputError


def test_one_is_made_once_for_each_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("# nothing yet\n")
    programs = virtualenv.make(tmp_path, "x", files=[lock])
    said = subprocess.run([programs / "python", "-c", "import sys; print(sys.prefix)"],
                          check=True, text=True, capture_output=True).stdout.strip()  # fmt: skip
    assert Path(said) == programs.parent, "it was made under another name"
    (programs / "mark").touch()
    assert virtualenv.make(tmp_path, "x", files=[lock]) == programs
    assert (programs / "mark").exists()
    lock.write_text("# another\n")
    assert virtualenv.make(tmp_path, "x", files=[lock]) != programs


def test_what_cannot_be_installed_leaves_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("./no-such-package\n")
    with pytest.raises(BakeryError, match="uv failed"):
        virtualenv.make(tmp_path, "x", files=[lock])
    assert [one for one in (tmp_path / "x").iterdir() if one.is_dir()] == []


def test_a_python_that_is_not_here_is_told() -> None:
    with pytest.raises(InputError, match=r"no Python 3\.99 here"):
        virtualenv.find_python("3.99")
