"""The data disk goes back to its snapshot when a migration has begun, and only then."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from bakery.data_disk import DataDisk, read_file
from bakery.errors import BakeryError, InputError

RECORD = "state/migration.json"
MYSQL = "mysql/data/mysql_upgrade_history"


def fill(disk: Path, **records: str) -> None:
    """Make a small file system with these files."""
    folder = disk.parent / "content"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in {"record": "done r1", "mysql": "9.7.4", **records}.items():
        path = folder / {"record": RECORD, "mysql": MYSQL}.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    disk.unlink(missing_ok=True)
    subprocess.run(
        ["/sbin/mkfs.ext4", "-q", "-d", folder, disk, "4M"], check=True, capture_output=True
    )


@pytest.fixture
def data(tmp_path: Path) -> DataDisk:
    made = DataDisk(tmp_path / "x.raw")
    fill(made.path)
    made.take_snapshot(2)
    return made


def test_it_is_made_once(tmp_path: Path) -> None:
    made = DataDisk(tmp_path / "data" / "x.raw")
    made.make(1)
    assert made.path.stat().st_size == 1 << 30
    made.path.write_bytes(b"served")
    made.make(1)
    assert made.path.read_bytes() == b"served"


def test_it_grows_and_never_shrinks(tmp_path: Path) -> None:
    made = DataDisk(tmp_path / "x.raw")
    made.make(1)
    made.path.open("r+b").write(b"served")
    assert not made.grow(1)
    assert made.grow(3)
    assert made.path.stat().st_size == 3 << 30
    with pytest.raises(InputError, match="has 3 GiB, and it never shrinks to 2") as refused:
        made.grow(2)
    assert "data_disk_gib = 3" in refused.value.hint
    assert made.path.stat().st_size == 3 << 30
    assert made.path.open("rb").read(6) == b"served"


def test_what_uses_it_sees_it_grow(tmp_path: Path) -> None:
    made = DataDisk(tmp_path / "x.raw")
    made.make(1)
    words = ["losetup", "--find", "--show", str(made.path)]
    loop = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        made.grow(2)
        size = subprocess.run(
            ["/sbin/blockdev", "--getsize64", loop], check=True, capture_output=True, text=True
        ).stdout
        assert int(size) == 2 << 30
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def test_only_our_own_disk_is_taken(data: DataDisk, tmp_path: Path) -> None:
    words = ["/sbin/blkid", "-p", "-o", "value", "-s", "UUID", str(data.path)]
    uuid = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    data.check_owner(uuid)
    before = data.path.read_bytes()
    with pytest.raises(InputError, match=f"it has ext4 {uuid}, wanted is ext4 0000"):
        data.check_owner("0000")
    assert data.path.read_bytes() == before
    DataDisk(tmp_path / "none").check_owner("0000")
    empty = DataDisk(tmp_path / "empty.raw")
    empty.make(1)
    empty.check_owner("0000")


def test_files_are_read_where_the_file_system_begins(data: DataDisk, tmp_path: Path) -> None:
    assert read_file(data.path, f"/{RECORD}") == "done r1"
    assert read_file(data.path, "/nothing") == ""
    shifted = tmp_path / "shifted"
    shifted.write_bytes(b"\0" * (1 << 20) + data.path.read_bytes())
    assert read_file(shifted, f"/{RECORD}", 1 << 20) == "done r1"


def test_it_stays_when_no_migration_began(data: DataDisk) -> None:
    fill(data.path, runs="a run of the new generation")
    assert not data.changed(2)
    assert not data.changed(3), "there is no such snapshot"
    with pytest.raises(BakeryError, match="no snapshot of before generation 3"):
        data.restore(3)
    assert read_file(data.path, "/runs") == "a run of the new generation"


@pytest.mark.parametrize("records", [{"record": "upgrade r2"}, {"mysql": "9.7.4 9.8.0"}])
def test_it_goes_back_when_one_began_and_nothing_is_lost(
    data: DataDisk, records: dict[str, str]
) -> None:
    fill(data.path, runs="perhaps a run", **records)
    assert data.changed(2)
    data.restore(2)
    assert read_file(data.path, f"/{RECORD}") == "done r1"
    assert read_file(data.path, f"/{MYSQL}") == "9.7.4"
    assert read_file(data.undone, "/runs") == "perhaps a run"
    assert not data.changed(2), "the second time there is nothing to do"


def test_a_kill_between_the_two_names_loses_nothing(
    data: DataDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data.path, record="upgrade r2")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            data.restore(2)
    assert data.path.exists()
    assert data.changed(2)
    data.restore(2)
    assert read_file(data.path, f"/{RECORD}") == "done r1"
    assert read_file(data.undone, f"/{RECORD}") == "upgrade r2"


def test_a_disk_in_use_is_not_touched(data: DataDisk) -> None:
    fill(data.path, record="upgrade r2")
    with data.path.open("rb") as machine:
        fcntl.flock(machine, fcntl.LOCK_EX)
        for method in (data.take_snapshot, data.changed, data.restore):
            with pytest.raises(BakeryError, match="in use"):
                method(2)
    assert data.changed(2)


def test_only_the_snapshots_that_are_needed_stay(data: DataDisk, tmp_path: Path) -> None:
    data.take_snapshot(12)
    (tmp_path / "x.before-3.raw.part").touch()
    data.forget_snapshots(but={2})
    assert sorted(path.name for path in tmp_path.glob("*.raw*")) == ["x.before-2.raw", "x.raw"]


def test_all_of_it_goes(data: DataDisk, tmp_path: Path) -> None:
    fill(data.path, record="upgrade r2")
    data.restore(2)
    data.take_snapshot(3)
    data.remove()
    assert list(tmp_path.glob("*.raw*")) == []
