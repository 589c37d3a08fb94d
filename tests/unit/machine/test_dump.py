"""A dump as it passes: what is counted in it, and how damage shows."""

import gzip
from pathlib import Path

import pytest
from mlflow_bakery_machine import dump
from mlflow_bakery_machine.files import MachineError

from tests.unit.machine.samples import DUMP


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dump.Contents]:
    path = tmp_path / "x.sql.gz"
    return path, dump.write(DUMP, path)


def test_rows_are_counted_whatever_is_in_the_values(written: tuple[Path, dump.Contents]) -> None:
    contents = written[1]
    assert contents.rows == {"alembic_version": 1, "tags": 6, "empty": 0}
    assert contents.revision == "dc11669786a5"
    assert contents.whole
    assert contents.size == sum(map(len, DUMP))


def test_what_is_written_is_what_was_given(written: tuple[Path, dump.Contents]) -> None:
    path = written[0]
    assert gzip.decompress(path.read_bytes()) == b"".join(DUMP)
    assert path.stat().st_mode & 0o777 == 0o600
    size, end = dump.unpacked_end(path)
    assert size == written[1].size
    assert dump.is_whole(end)


def test_the_same_dump_makes_the_same_file_at_any_time(
    written: tuple[Path, dump.Contents], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = written[0].with_name("other.sql.gz")
    monkeypatch.setattr("time.time", lambda: 1e9)
    dump.write(DUMP, other)
    assert dump.measure(other) == dump.measure(written[0])


def test_a_dump_without_its_last_line_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.sql.gz"
    assert not dump.write(DUMP[:-1], path).whole
    assert not dump.is_whole(dump.unpacked_end(path)[1])
    assert not dump.is_whole(b"")


def test_a_file_that_was_cut_cannot_be_unpacked(written: tuple[Path, dump.Contents]) -> None:
    path = written[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MachineError, match="cannot be unpacked"):
        dump.unpacked_end(path)


def test_triggers_are_read_without_their_maker(written: tuple[Path, dump.Contents]) -> None:
    lines = list(dump.read(written[0]))
    assert not any(b"DEFINER" in line for line in lines)
    assert [line for line in lines if b"TRIGGER" not in line] == [
        line for line in DUMP if b"TRIGGER" not in line
    ]


def test_a_value_that_looks_like_a_maker_stays(tmp_path: Path) -> None:
    line = b"INSERT INTO `tags` VALUES ('DEFINER=`a`@`b`');\n"
    dump.write([line], tmp_path / "x.sql.gz")
    assert list(dump.read(tmp_path / "x.sql.gz")) == [line]
