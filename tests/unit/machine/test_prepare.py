"""Preparing a start, with all places in a folder; the owners are checked as root only."""

import json
import os
from pathlib import Path

import pytest
from mlflow_bakery_machine import files, prepare
from mlflow_bakery_machine.prepare import Places

from tests.unit.machine.samples import IMAGES, ROOT, environment_text


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    if os.geteuid() != 0:
        monkeypatch.setattr(files, "_own", lambda *_: None)
    share = tmp_path / "share"
    (share / "compose/traefik").mkdir(parents=True)
    (share / "images.json").write_text(json.dumps(IMAGES))
    static = (ROOT / "compose/traefik/traefik.yaml").read_text()
    (share / "compose/traefik/traefik.yaml").write_text(static)
    (tmp_path / "environment.json").write_text(environment_text())
    (tmp_path / "data").mkdir()
    return Places(
        environment=tmp_path / "environment.json",
        share=share,
        run=tmp_path / "run",
        data=tmp_path / "data",
        spool=tmp_path / "spool",
    )


def test_the_environment_is_kept_and_the_password_made_once(places: Places) -> None:
    prepare.prepare(places)
    kept = places.data / "environment.json"
    assert kept.read_text() == places.environment.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    password = (places.data / "secrets/mysql-password").read_text()
    assert len(password) == 40
    prepare.prepare(places)
    assert (places.data / "secrets/mysql-password").read_text() == password
    assert password in (places.run / "mysql/init.sql").read_text()


def test_a_given_password_wins_and_is_not_kept_apart(places: Places) -> None:
    given = environment_text(mysql={"user": "mlflow", "password": "given"})
    places.environment.write_text(given)
    prepare.prepare(places)
    assert "'given'" in (places.run / "mysql/init.sql").read_text()
    assert not (places.data / "secrets/mysql-password").exists()


def test_what_the_data_disk_keeps_wins_over_an_older_copy(places: Places) -> None:
    kept = environment_text(serial=2, hostname="new.example.com")
    (places.data / "environment.json").write_text(kept)
    assert prepare.prepare(places).hostname == "new.example.com"
    assert (places.data / "environment.json").read_text() == kept


def test_the_mark_of_the_last_migration_and_cut_off_uploads_go(places: Places) -> None:
    prepare.prepare(places)
    (places.run / "migration/done").touch()
    (places.spool / "folder").mkdir()
    (places.spool / "folder/part").touch()
    prepare.prepare(places)
    assert list((places.run / "migration").iterdir()) == []
    assert list(places.spool.iterdir()) == []


def test_directories_stay_the_same_ones_since_they_are_mounted(places: Places) -> None:
    prepare.prepare(places)
    before = {path: path.stat().st_ino for path in places.run.rglob("*") if path.is_dir()}
    prepare.prepare(places)
    assert before == {path: path.stat().st_ino for path in places.run.rglob("*") if path.is_dir()}


def test_no_environment_is_one_line_and_code_1(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.environment.unlink()
    folders = ("environment", "share", "run", "data", "spool")
    arguments = [word for name in folders for word in (f"--{name}", str(getattr(places, name)))]
    assert prepare.main(arguments) == 1
    assert "there is no environment" in capsys.readouterr().err


def test_running_containers_keep_what_they_use(places: Places) -> None:
    prepare.prepare(places)
    used = (places.run / "migration" / "done", places.spool / "upload")
    for path in used:
        path.write_text("")
    (places.data / "environment.json").write_text(environment_text(serial=2, users={"new": "h"}))
    prepare.prepare(places, running=True)
    assert all(path.exists() for path in used)
    assert "new:h" in (places.run / "traefik/dynamic/mlflow.yaml").read_text()
    prepare.prepare(places)
    assert not any(path.exists() for path in used)
