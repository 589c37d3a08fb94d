"""The lock file is read as it was written, and resolving keeps what it cannot reach."""

from dataclasses import replace
from pathlib import Path

import pytest

from bakery import lock as locking
from bakery.errors import InputError
from bakery.pins import LOCK, Lock, UbuntuRelease, read_lock, write_lock


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
    monkeypatch.setattr(locking, "mysql_version", lambda: "9.9.1")
    monkeypatch.setattr("bakery.containers.registry.Registry.digest", unreachable)
    monkeypatch.setattr("bakery.ubuntu.find_published", unreachable)
    missed = locking.lock(cache=tmp_path, path=tmp_path / "lock.toml")
    now = read_lock(tmp_path / "lock.toml")
    assert (now.mlflow, now.mysql_series) == ("3.99.0", "9.9")
    assert now.registry == read_lock().registry
    assert len(missed) == 6
    assert all("no route" in line for line in missed)
    assert capfd.readouterr().err.count("not resolved") == 6


def test_a_fault_of_another_kind_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(read_lock(), tmp_path / "lock.toml")

    def broken(_lock: Lock) -> Lock:
        raise KeyError("a mistake in the program")

    monkeypatch.setattr(locking, "_wheels", broken)
    with pytest.raises(KeyError):
        locking.lock(cache=tmp_path, path=tmp_path / "lock.toml")
