import json
from pathlib import Path

import migrate
import pytest
from migrate import Found, Record, RefusedError, Step, Target, decide, statements, without_definer

TARGET = Target(mlflow="3.17.2", revision="head", ancestors=["old", "older"])
EMPTY, CURRENT, OLD = Found(0, None), Found(65, "head"), Found(60, "old")


@pytest.mark.parametrize(
    ("record", "found", "step"),
    [
        (None, EMPTY, Step.LOAD),
        (Record("first", "head"), EMPTY, Step.LOAD),
        (Record("first", "head"), Found(12, None), Step.START_OVER),
        # The version stands early in the prepared schema: it does not mean that all of it is there.
        (Record("first", "head"), CURRENT, Step.START_OVER),
        (Record("done", "head"), CURRENT, Step.NOTHING),
        (None, CURRENT, Step.NOTHING),
        (Record("done", "old"), OLD, Step.UPGRADE),
        (None, OLD, Step.UPGRADE),
        (Record("upgrade", "head"), CURRENT, Step.NOTHING),
    ],
)
def test_steps(record: Record | None, found: Found, step: Step) -> None:
    assert decide(record, found, TARGET) is step


@pytest.mark.parametrize(
    ("record", "found", "message"),
    [
        (Record("done", "head"), EMPTY, "restore a backup"),
        (Record("done", "newer"), Found(70, "newer"), "does not know"),
        (None, Found(3, None), "not of MLflow at all"),
        (Record("upgrade", "head"), OLD, "cut off"),
        (Record("upgrade", "head"), EMPTY, "cut off"),
    ],
)
def test_refusals(record: Record | None, found: Found, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        decide(record, found, TARGET)


def test_nothing_but_an_unfinished_first_migration_is_ever_dropped() -> None:
    for record in (None, Record("done", "head"), Record("upgrade", "head")):
        for found in (EMPTY, CURRENT, OLD, Found(3, None)):
            try:
                assert decide(record, found, TARGET) is not Step.START_OVER
            except RefusedError:
                continue


DUMP = """-- a comment
/*!40101 SET NAMES utf8mb4 */;
CREATE TABLE `a` (
  `b` varchar(9) DEFAULT ';'
);
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`mlflow`@`%`*/ /*!50003 TRIGGER `t` BEGIN
  SELECT 1;
END */;;
DELIMITER ;
INSERT INTO `a` VALUES ('x');
"""


def test_a_dump_is_split_as_mysql_would() -> None:
    found = list(statements(DUMP))
    assert [statement.split("\n")[0][:14] for statement in found] == [
        "/*!40101 SET N",
        "CREATE TABLE `",
        "/*!50003 CREAT",
        "INSERT INTO `a",
    ]
    assert found[2].endswith("END */")
    assert without_definer(found[2]).startswith("/*!50003 CREATE*/  /*!50003 TRIGGER")


def test_a_dump_that_ends_early_is_refused() -> None:
    with pytest.raises(RefusedError, match="middle"):
        list(statements("CREATE TABLE `a` (\n"))


def test_a_record_survives(tmp_path: Path) -> None:
    path = tmp_path / "migration.json"
    assert migrate.read_record(path) is None
    migrate.write_record(path, Record("first", "head"))
    assert migrate.read_record(path) == Record("first", "head")
    assert [entry.name for entry in tmp_path.iterdir()] == ["migration.json"]


class Database:
    """A stand-in for MySQL that knows the two questions and notes the rest."""

    def __init__(self, tables: list[str], revision: str) -> None:
        self.tables, self.revision = tables, revision
        self.statements: list[str] = []
        self.rows: list[tuple[str]] = []

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None: ...

    def cursor(self) -> "Database":
        return self

    def execute(self, statement: str) -> None:
        if statement.startswith("SHOW"):
            self.rows = [(table,) for table in self.tables]
        elif statement.startswith("SELECT"):
            self.rows = [(self.revision,)]
        else:
            self.statements.append(statement)
            self.tables = ["alembic_version", "a"]

    def fetchall(self) -> list[tuple[str]]:
        return self.rows


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("SHARE", tmp_path), ("RECORD", tmp_path / "r"), ("MARK", tmp_path / "m")):
        monkeypatch.setattr(migrate, name, value)
    (tmp_path / "schema.sql").write_text(DUMP)
    target = {"mlflow": "1", "revision": "head", "ancestors": []}
    (tmp_path / "schema.json").write_text(json.dumps(target))
    return tmp_path


def test_a_first_migration_is_written_down_before_and_after(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database([], "head")
    seen: list[Record | None] = []
    monkeypatch.setattr(migrate, "connect", lambda: database)
    monkeypatch.setattr(migrate, "load", lambda _: seen.append(migrate.read_record(share / "r")))
    database.tables = []
    monkeypatch.setattr(migrate, "inspect", lambda _: CURRENT if seen else EMPTY)
    assert migrate.main([]) == 0
    assert seen == [Record("first", "head")]
    assert migrate.read_record(share / "r") == Record("done", "head")
    assert (share / "m").exists()


def test_a_refusal_leaves_no_mark_and_touches_nothing(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(["alembic_version"], "newer")
    monkeypatch.setattr(migrate, "connect", lambda: database)
    assert migrate.main([]) == 1
    assert "REFUSED" in capsys.readouterr().err
    assert database.statements == []
    assert not (share / "m").exists()


def test_starting_over_empties_this_schema_only(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(["a"], "head")
    monkeypatch.setattr(migrate, "connect", lambda: database)
    migrate.write_record(share / "r", Record("first", "head"))
    assert migrate.main([]) == 0
    dropped = [statement for statement in database.statements if "DROP" in statement]
    assert dropped == ["DROP DATABASE `mlflow`"]
