"""The machine's way into service and out of it, with the commands that it runs recorded."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow_bakery_machine import containers, duty
from mlflow_bakery_machine.files import MachineError
from mlflow_bakery_machine.prepare import Places


class Machine:
    """Notes what is run; `mounted` until the disk's unit is stopped, unless it is stuck."""

    def __init__(self) -> None:
        self.mounted: str | None = "/dev/mlflow-disks/data"
        self.stuck = False
        self.ran: list[str] = []
        self.says: dict[str, tuple[int, str]] = {}
        self.rendered: list[bool] = []

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        words = " ".join(command)
        self.ran.append(words)
        if words == "systemctl stop mlflow-data-disk.service" and not self.stuck:
            self.mounted = None
        found = [answer for start, answer in self.says.items() if words.startswith(start)]
        code, out = found[0] if found else (0, "")
        return subprocess.CompletedProcess(command, code, out, "")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    def prepare(places: Places, *, running: bool) -> None:
        assert running
        made.rendered.append(places.admitted.exists())

    monkeypatch.setattr(duty, "mounted_device", lambda _: made.mounted)
    monkeypatch.setattr(duty, "_run", made.run)
    for module in (duty, containers):
        monkeypatch.setattr(module, "must", lambda command: made.run(command).stdout)
    monkeypatch.setattr(duty, "query", lambda *_: [["runs", "3"]])
    monkeypatch.setattr(duty, "prepare", prepare)
    return made


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "own").mkdir()
    return Places(own=tmp_path / "own")


def test_who_is_admitted_is_remembered(machine: Machine, places: Places) -> None:
    duty.admit(places)
    duty.close(places)
    duty.close(places)
    assert machine.rendered == [True, False, False]
    assert not places.admitted.exists()
    machine.mounted = None
    duty.close(places)
    duty.admit(places)
    assert len(machine.rendered) == 3, "in standby nothing is rendered"
    assert places.admitted.exists()


def test_it_ends_its_work_in_order(machine: Machine, places: Places) -> None:
    duty.admit(places)
    machine.says["docker ps"] = (0, "")
    assert duty.quiesce(places) == {"runs": 3}
    assert machine.rendered == [True, False], "nobody comes in any more"
    assert [words for words in machine.ran if not words.startswith("docker ps")] == [
        "docker stop mlflow-mlflow-1",
        "systemctl stop mlflow-backup.timer mlflow-backup.service mlflow.service",
        "systemctl stop mlflow-data-disk.service",
    ]


def test_containers_of_a_start_that_was_cut_off_are_stopped(
    machine: Machine, places: Places
) -> None:
    machine.says["docker ps"] = (0, "abc\n")
    duty.quiesce(places)
    assert any(words.startswith("docker compose") for words in machine.ran)


def test_a_disk_that_stays_mounted_is_told(machine: Machine, places: Places) -> None:
    machine.stuck = True
    with pytest.raises(MachineError, match="still mounted"):
        duty.quiesce(places)


def test_a_machine_in_standby_has_nothing_to_end(machine: Machine, places: Places) -> None:
    machine.mounted = None
    assert duty.quiesce(places) == {}


def test_what_cannot_be_counted_in_time_is_left_out(
    machine: Machine, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def query(_: str, statement: str) -> Any:
        asked.append(statement)
        if "metrics" in statement:
            raise MachineError("maximum statement execution time exceeded")
        return [["experiments", "1"], ["runs", "2"]]

    monkeypatch.setattr(duty, "query", query)
    assert duty.count(places) == {"experiments": 1, "runs": 2}
    assert len(asked) == 2
    del machine


def test_a_standby_waits_for_mlflow_s_imports(machine: Machine, places: Places) -> None:
    machine.says["docker inspect"] = (0, "0 2026-11-26T13:00:00Z\n")
    machine.says["docker logs"] = (0, "waiting for the migration\n")
    duty.wait(places)
    machine.says["docker inspect"] = (0, "2 2026-11-26T13:00:00Z\n")
    machine.says["docker logs"] = (0, "ImportError: no module\n")
    with pytest.raises(MachineError, match="MLflow does not start: ImportError"):
        duty.wait(places)


def test_a_program_is_read_in_whichever_layer_it_is(machine: Machine, tmp_path: Path) -> None:
    program = tmp_path / "lower" / "usr" / "sbin" / "mysqld"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"x" * (3 << 20))
    machine.says["docker image"] = (0, f"{tmp_path / 'upper'}:{tmp_path / 'lower'}\n")
    duty._read_ahead("image", "usr/sbin/mysqld")
    machine.says["docker image"] = (1, "no such image\n")
    duty._read_ahead("image", "usr/sbin/mysqld")
    assert len(machine.ran) == 2


def test_the_mark_is_what_the_entry_says() -> None:
    entry = Path(__file__).parents[3] / "compose" / "mlflow" / "entry.py"
    assert duty._IMPORTED in entry.read_text()


def test_a_failure_is_an_exit_code(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert duty.main(["count"]) == 0
    assert capsys.readouterr().out == '{"runs": 3}\n'

    def fails(_: Places) -> None:
        raise MachineError("because")

    monkeypatch.setitem(duty._VERBS, "wait", fails)
    assert duty.main(["wait"]) == 1
    assert "because" in capsys.readouterr().err
    del machine
