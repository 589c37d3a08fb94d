"""Making backups with a dump from a file and a Blob in memory."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow_bakery_machine import backup, backup_tool, containers, dump, files
from mlflow_bakery_machine.backup import Places
from mlflow_bakery_machine.files import MachineError

from tests.unit.machine.samples import DUMP, IMAGES, environment_text
from tests.unit.machine.test_catalogue import manifest


class Blob:
    """The container of backups: manifests by name."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.there: dict[str, Any] = {}
        self.away = False

    def __call__(self, verb: str, *names: str) -> str:
        if self.away:
            raise MachineError("Blob: nobody answers")
        for name in names:
            if verb == "put":
                assert (self.store / f"{name}.sql.gz").exists()
                self.there[name] = json.loads((self.store / f"{name}.json").read_text())
            else:
                del self.there[name]
        return json.dumps(list(self.there.values())) if verb == "list" else ""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    if os.geteuid() != 0:
        monkeypatch.setattr(files, "_own", lambda *_: None)
        monkeypatch.setattr(os, "chown", lambda *_: None)
    made = Places(data=tmp_path / "data", share=tmp_path, lock=tmp_path / "lock")
    made.data.mkdir()
    (made.data / "environment.json").write_text(environment_text())
    (tmp_path / "images.json").write_text(json.dumps(IMAGES))
    target = {"mlflow": "3.17.2", "revision": "dc11669786a5", "ancestors": []}
    (tmp_path / "schema.json").write_text(json.dumps(target))
    dumps(tmp_path, monkeypatch, DUMP)
    return made


def dumps(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes], code: int = 0) -> None:
    """Let mysqldump write these lines and end with a code."""
    (folder / "dump").write_bytes(b"".join(lines))
    script = f"cat {folder / 'dump'}; echo lost connection >&2; exit {code}"
    monkeypatch.setattr(containers, "dump_command", lambda: ["sh", "-c", script])


@pytest.fixture
def blob(places: Places, monkeypatch: pytest.MonkeyPatch) -> Blob:
    made = Blob(places.data / "backups/store")
    monkeypatch.setattr(containers, "blob", made)
    return made


def test_a_backup_counts_when_it_is_in_both_places(places: Places, blob: Blob) -> None:
    made = backup.make(places)
    assert made["rows"]["tags"] == 6
    assert made["revision"] == "dc11669786a5"
    assert made["artifacts"] == "wasbs://mlflow@devstoreaccount1.blob.core.windows.net/"
    assert list(blob.there.values()) == [made]
    listed = backup.list_all(places)
    assert [one["places"] for one in listed["backups"]] == [["data disk", "Blob"]]
    assert backup.last(places) == made


def test_a_backup_that_cannot_be_copied_fails_and_is_copied_the_next_time(
    places: Places, blob: Blob
) -> None:
    blob.away = True
    with pytest.raises(MachineError, match="nobody answers"):
        backup.make(places)
    listed = backup.list_all(places)
    assert listed["blob_error"] == "Blob: nobody answers"
    assert [one["places"] for one in listed["backups"]] == [["data disk"]]
    blob.away = False
    backup.daily(places)
    assert [one["places"] for one in backup.list_all(places)["backups"]] == [["data disk", "Blob"]]


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        (DUMP[:-1], 0, "lost connection"),
        (DUMP, 2, "lost connection"),
        ([b"CREATE TABLE `a` (\n", DUMP[-1]], 0, "no MLflow in it"),
    ],
    ids=["no last line", "failed", "empty"],
)
def test_a_bad_dump_leaves_nothing(
    *,
    lines: list[bytes],
    code: int,
    said: str,
    places: Places,
    blob: Blob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dumps(tmp_path, monkeypatch, lines, code)
    with pytest.raises(MachineError, match=said):
        backup.make(places)
    assert list(places.store.folder.iterdir()) == []
    assert blob.there == {}


def test_a_full_disk_leaves_nothing(
    places: Places, blob: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_lines: object, path: Path) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dump, "write", full)
    with pytest.raises(OSError, match="No space"):
        backup.make(places)
    assert list(places.store.folder.iterdir()) == []


def test_old_ones_go_in_both_places_but_none_of_another_deployment(
    places: Places, blob: Blob
) -> None:
    now = datetime.now(UTC)
    for days in range(60):
        one = manifest(now - timedelta(days=days, hours=1))
        places.store.dump(one.name).touch()
        places.store.save(one)
        blob("put", one.name)
    other = manifest(now - timedelta(days=999), name="other-1", deployment="other")
    blob.there[other.name] = json.loads(other.text())
    backup.make(places)
    here = {one.name for one in places.store.all()}
    assert 9 <= len(here) <= 12
    assert set(blob.there) == here | {"other-1"}


def test_the_command_line_refuses_with_2_and_fails_with_1(
    places: Places, blob: Blob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backup_tool, "Places", lambda: places)
    assert backup_tool.main(["make"]) == 0
    assert json.loads(capsys.readouterr().out)["revision"] == "dc11669786a5"
    assert backup_tool.main(["fetch", "x"]) == 2
    assert capsys.readouterr().err == "REFUSED: no backup is called x\n"
    blob.away = True
    assert backup_tool.main(["fetch", "x"]) == 1
    assert "nobody answers" in capsys.readouterr().err


def test_two_at_a_time_are_kept_apart(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_PATIENCE", 0.3)
    with (
        backup.locked(places),
        pytest.raises(MachineError, match="at work"),
        backup.locked(places),
    ):
        pytest.fail("both got in")
    with backup.locked(places):
        pass


def test_no_secret_is_in_an_argument() -> None:
    words = [*containers.dump_command(), *containers.load_command()]
    assert not [word for word in words if "password" in word.lower()]
    assert "--defaults-file=/run/secrets/client.cnf" in words
