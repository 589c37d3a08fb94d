"""Putting a loaded backup in place: what ends up serving, whatever happens on the way."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mlflow_bakery_machine import backup, containers, files, restore
from mlflow_bakery_machine.backup import Places
from mlflow_bakery_machine.catalogue import RefusedError
from mlflow_bakery_machine.files import MachineError

from tests.unit.machine.samples import ROOT, environment_text
from tests.unit.machine.test_catalogue import manifest

NAME = manifest().name
ENTRY = (ROOT / "compose/mysql/entry.sh").read_text()


def run_entry(base: Path) -> str:
    """Run MySQL's entry script on a folder, with a mysqld that only tells its arguments."""
    programs = base.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name, script in {
        "mysqld": 'case "$*" in *initialize*) mkdir "${3#--datadir=}" ;; *) echo "$@" ;; esac',
        "sync": ":",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    text = ENTRY.replace("/var/lib/mysql", str(base))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", text, "entry.sh", "--an-option"],
        check=True, text=True, capture_output=True, env=environment,
    ).stdout  # fmt: skip


def fill(folder: Path, **content: str) -> None:
    for name, text in content.items():
        path = folder / name.replace("_", ".")
        path.mkdir(parents=True)
        (path / "what").write_text(text)


@pytest.mark.parametrize(
    ("before", "serving"),
    [
        ({"data": "old"}, "old"),
        ({"data": "old", "data_restored": "new"}, "new"),
        ({"data": "old", "data_restored": "new", "data_replaced": "older"}, "new"),
        # Killed between the two renames.
        ({"data_replaced": "old", "data_restored": "new"}, "new"),
        ({"data_replaced": "old", "data": "new"}, "new"),
    ],
)
def test_mysql_starts_with_the_restored_data_once_there_is_any(
    before: dict[str, str], serving: str, tmp_path: Path
) -> None:
    base = tmp_path / "mysql"
    fill(base, **before)
    assert "--an-option" in run_entry(base)
    assert (base / "data/what").read_text() == serving
    assert not (base / "data.restored").exists()
    if "data_restored" in before:
        assert (base / "data.replaced/what").read_text() == "old"


def test_mysql_makes_its_data_when_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "mysql").mkdir()
    assert "making" in run_entry(tmp_path / "mysql")
    assert (tmp_path / "mysql/data").is_dir()


class Machine:
    """systemd and MySQL, as far as they matter here: they take the data as the real ones do."""

    def __init__(self, data: Path) -> None:
        self.mysql = data / "mysql"
        self.living = 0
        self.fails: list[str] = []
        self.done: list[str] = []
        self.active = True
        self.serves = "old"

    def must(self, command: Sequence[str]) -> str:
        words = " ".join(command)
        if words == "docker ps --quiet":
            return f"{self.serves}\n"
        self.done.append(" ".join(command[-2:]))
        if words == "systemctl start mlflow.service":
            if not self.serves:  # A container that runs is left as it is.
                run_entry(self.mysql)
                self.serves = (self.mysql / "data/what").read_text()
            self.active = self.serves not in self.fails
            if not self.active:
                raise MachineError("mlflow.service failed")
        elif command[-1] == "stop" or (words == "systemctl stop mlflow.service" and self.active):
            self.serves = ""
        return ""

    def start(self, *_: str) -> None:
        self.done.append("mysql alone")

    def count(self, _container: str, wishes: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(wishes, self.living)

    def make(self, _places: Places, *, keep: str) -> dict[str, str]:
        self.done.append(f"backup {keep}")
        return {"name": "before"}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    if os.geteuid() != 0:
        monkeypatch.setattr(files, "_own", lambda *_: None)
    made = Places(data=tmp_path / "data", share=tmp_path, lock=tmp_path / "lock")
    fill(made.data / "mysql", data="old")
    fill(made.data / "mysql/scratch", data="new")
    (made.data / "state").mkdir()
    (made.data / "environment.json").write_text(environment_text())
    write_record(made, "done")
    made.store.save(manifest())
    restore._write_loaded(made.data / "mysql/scratch", manifest())
    return made


@pytest.fixture
def machine(places: Places, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(places.data)
    for name in ("must", "start", "count"):
        monkeypatch.setattr(containers, name, getattr(made, name))
    monkeypatch.setattr(backup, "make", made.make)
    monkeypatch.setattr(subprocess, "run", started_again(made, subprocess.run))
    return made


def started_again(machine: Machine, real: Callable[..., object]) -> Callable[..., object]:
    def run(command: Sequence[str], **given: object) -> object:
        if command[0] == "systemctl":
            return machine.must(command)
        return real(command, **given)

    return run


def write_record(places: Places, phase: str) -> None:
    record = {"phase": phase, "revision": "older"}
    (places.data / "state/migration.json").write_text(json.dumps(record))


def serving(places: Places) -> tuple[str, str]:
    """Return which data serves, and the revision that the next migration takes it for."""
    record = json.loads((places.data / "state/migration.json").read_text())
    return (places.data / "mysql/data/what").read_text(), record["revision"]


def test_what_was_loaded_serves_and_nothing_is_left(places: Places, machine: Machine) -> None:
    done = restore.put_in_place(places, NAME, replace=False)
    assert done == {"name": NAME, "backup_before": "", "rows": {"runs": 1}}
    assert serving(places) == ("new", "head")
    left = {path.name for path in (places.data / "mysql").iterdir()}
    assert left == {"data", "scratch", "tmp"}
    assert list((places.data / "mysql/scratch").iterdir()) == []


def test_what_is_replaced_is_backed_up_when_nobody_can_write(
    places: Places, machine: Machine
) -> None:
    machine.living = 3
    assert restore.put_in_place(places, NAME, replace=True)["backup_before"] == "before"
    assert machine.done == [
        "stop mlflow.service",
        "mysql alone",
        f"backup before the restore of {NAME}",
        "stop mysql",
        "start mlflow.service",
    ]
    assert serving(places) == ("new", "head")


def test_runs_are_not_replaced_without_being_asked_to(places: Places, machine: Machine) -> None:
    machine.living = 3
    with pytest.raises(RefusedError, match="the database has"):
        restore.put_in_place(places, NAME, replace=False)
    assert serving(places) == ("old", "older")
    assert machine.done[-1] == "start mlflow.service"


def test_a_failed_backup_of_what_is_there_ends_the_restore(
    places: Places, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MachineError("Blob: away")

    machine.living = 3
    monkeypatch.setattr(backup, "make", fails)
    with pytest.raises(MachineError, match="Blob: away"):
        restore.put_in_place(places, NAME, replace=True)
    assert serving(places) == ("old", "older")
    assert machine.done[-1] == "start mlflow.service"


def test_the_old_data_comes_back_when_the_server_does_not(places: Places, machine: Machine) -> None:
    machine.fails = ["new"]
    with pytest.raises(MachineError, match="serves again"):
        restore.put_in_place(places, NAME, replace=False)
    assert serving(places) == ("old", "older")
    assert machine.serves == "old", "no MySQL goes on with the files of the other"
    assert not (places.data / "mysql/data.replaced").exists()


def test_nothing_is_placed_that_was_not_loaded(places: Places, machine: Machine) -> None:
    (places.data / "mysql/scratch/loaded.json").unlink()
    with pytest.raises(MachineError, match="not loaded"):
        restore.put_in_place(places, NAME, replace=True)
    assert machine.done == []


def test_a_first_start_is_not_disturbed(places: Places, machine: Machine) -> None:
    # Its record would make the next start empty the restored database.
    write_record(places, "first")
    with pytest.raises(RefusedError, match="first start"):
        restore.put_in_place(places, NAME, replace=True)
    assert machine.done == []
