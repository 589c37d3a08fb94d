"""The lock file is read as it was written, and resolving keeps what it cannot reach."""

from dataclasses import replace
from pathlib import Path

import pytest

from bakery import lock as locking
from bakery.containers.wheels import compile_file
from bakery.errors import BakeryError, InputError
from bakery.pins import LOCK, Lock, UbuntuRelease, read_lock, write_lock
from bakery.render import PROJECT


def test_what_is_written_is_read(tmp_path: Path) -> None:
    lock = replace(
        read_lock(),
        mysql_series="9.8",
        ubuntu=(("ubuntu-20.04", UbuntuRelease("20250624", "a" * 64)),),
    )
    write_lock(lock, tmp_path / "lock.toml")
    assert read_lock(tmp_path / "lock.toml") == lock


def test_the_file_in_the_project_is_as_it_would_be_written(tmp_path: Path) -> None:
    write_lock(read_lock(), tmp_path / "lock.toml")
    assert (tmp_path / "lock.toml").read_bytes() == LOCK.read_bytes()


def test_nothing_in_the_project_s_lock_was_made_up() -> None:
    for image in read_lock().registry:
        assert image.digest == "" or image.digest.startswith("sha256:")
    for _base, pinned in read_lock().ubuntu:
        assert bool(pinned.release) == bool(pinned.sha256)


def test_what_is_out_of_reach_keeps_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_lock(replace(read_lock(), mysql_series="9.6"), tmp_path / "lock.toml")

    def unreachable(*_: object, **__: object) -> str:
        raise InputError("no route")

    def wheels(lock: Lock) -> Lock:
        return replace(lock, mlflow="3.99.0")

    monkeypatch.setattr(locking, "_wheels", wheels)
    monkeypatch.setattr(locking, "compile_file", unreachable)
    monkeypatch.setattr(locking, "mysql_version", lambda: "9.9.1")
    monkeypatch.setattr("bakery.containers.registry.Registry.digest", unreachable)
    monkeypatch.setattr("bakery.ubuntu.find_published", unreachable)
    missed = locking.lock(cache=tmp_path, path=tmp_path / "lock.toml")
    now = read_lock(tmp_path / "lock.toml")
    assert (now.mlflow, now.mysql_series) == ("3.99.0", "9.9")
    assert now.registry == read_lock().registry
    assert len(missed) == 7
    assert all("no route" in line for line in missed)
    assert capfd.readouterr().err.count("not resolved") == 7


def test_the_tools_are_locked_as_the_head_of_their_lock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(read_lock(), tmp_path / "lock.toml")
    compiled: dict[str, tuple[str, ...]] = {}

    def compile_file(source: Path, target: Path, *options: str) -> None:
        assert source.exists()
        compiled[str(target.relative_to(PROJECT))] = options

    monkeypatch.setattr(locking, "_wheels", lambda lock: lock)
    monkeypatch.setattr(locking, "compile_file", compile_file)
    monkeypatch.setattr(locking, "mysql_version", lambda: "9.9.1")
    monkeypatch.setattr("bakery.containers.registry.Registry.digest", lambda *_: "")
    monkeypatch.setattr("bakery.ubuntu.find_published", lambda *_, **__: UbuntuRelease())
    locking.lock(cache=tmp_path, path=tmp_path / "lock.toml")
    assert set(compiled) == {
        "requirements.txt",
        "images/client/requirements.txt",
        "images/train/requirements.txt",
        "examples/wine/requirements.txt",
    }
    for lock in compiled:
        assert "#    ./inv lock" in (PROJECT / lock).read_text().splitlines()[:2]


def test_what_cannot_be_resolved_leaves_the_lock_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "one.in", tmp_path / "one.txt"
    source.write_text("certifi==0.0.0.0.0\n")
    target.write_text("as it was\n")
    with pytest.raises(BakeryError):
        compile_file(source, target, "--python-version", "3.11")
    assert target.read_text() == "as it was\n"


def test_a_fault_of_another_kind_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(read_lock(), tmp_path / "lock.toml")

    def broken(_lock: Lock) -> Lock:
        raise KeyError("a mistake in the program")

    monkeypatch.setattr(locking, "_wheels", broken)
    with pytest.raises(KeyError):
        locking.lock(cache=tmp_path, path=tmp_path / "lock.toml")
