"""The one place where the database schema is made or changed; runs before each start of MLflow.

MySQL cannot take back half a schema change, so what is about to be done is written down first, on
the data disk. An unfinished first migration starts over on an emptied schema, since no server has
ever written to it. Nothing else is ever dropped.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

URI = os.environ.get("MLFLOW_BACKEND_STORE_URI", "")
SCHEMA = "mlflow"
COLLATION = "utf8mb4_0900_as_cs"
"""As in my.cnf and in the machine's init.sql: case-sensitive."""
SHARE = Path("/usr/share/mlflow-bakery")
RECORD = Path("/state/migration.json")
MARK = Path("/run/migration/done")
OPTIONS = "/run/secrets/my.cnf"
PATIENCE = 600
"""Seconds to wait for MySQL."""


class RefusedError(Exception):
    """The database is in a state that only a person can judge."""


class Step(Enum):
    """What a migration has to do."""

    NOTHING = "the schema is up to date"
    LOAD = "making the schema"
    START_OVER = "the first migration was cut off: making the schema anew"
    UPGRADE = "upgrading the schema"


@dataclass(frozen=True)
class Target:
    """The schema that this image's MLflow wants, and those that it can upgrade from."""

    mlflow: str
    revision: str
    ancestors: Sequence[str]


@dataclass(frozen=True)
class Found:
    """The schema in the database."""

    tables: int
    revision: str | None


@dataclass(frozen=True)
class Record:
    """What the last migration was about to do (first, upgrade) or has done (done)."""

    phase: str
    revision: str


def decide(record: Record | None, found: Found, target: Target) -> Step:
    """Return what to do.

    Raises:
        RefusedError: Going on could lose data.
    """
    if record is not None and record.phase == "first":
        return Step.START_OVER if found.tables else Step.LOAD
    if record is not None and record.phase == "upgrade" and found.revision != target.revision:
        raise RefusedError(
            f"an upgrade of the schema to {record.revision} was cut off: restore the data disk"
            " from the snapshot taken before it, or the database from a backup"
        )
    if not found.tables:
        if record is None:
            return Step.LOAD
        raise RefusedError(
            f"the database is empty, but it was at revision {record.revision} before:"
            " restore a backup"
        )
    return _judge_revision(found.revision, target)


def _judge_revision(revision: str | None, target: Target) -> Step:
    if revision == target.revision:
        return Step.NOTHING
    if revision in target.ancestors:
        return Step.UPGRADE
    raise RefusedError(
        f"the database has revision {revision or 'none'}, which MLflow {target.mlflow} does not"
        f" know (it wants {target.revision}): it is of a newer MLflow, or not of MLflow at all"
    )


def statements(dump: str) -> Iterator[str]:
    """Split what mysqldump wrote into statements, following its DELIMITER lines."""
    delimiter, lines = ";", []
    for line in dump.splitlines():
        if line.startswith("DELIMITER "):
            delimiter = line.split()[1]
        elif line.strip() and not line.startswith("--"):
            lines.append(line)
            if line.rstrip().endswith(delimiter):
                yield "\n".join(lines).rstrip().removesuffix(delimiter)
                lines = []
    if lines:
        raise RefusedError("the prepared schema ends in the middle of a statement")


def without_definer(statement: str) -> str:
    """Remove the account that made a trigger; the one that loads it takes its place."""
    return re.sub(r"/\*!\d+ DEFINER=`[^`]*`@`[^`]*`\*/|DEFINER=`[^`]*`@`[^`]*`", "", statement)


def read_record(path: Path) -> Record | None:
    """Return what the last migration wrote down, if there was one."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return Record(data["phase"], data["revision"])


def write_record(path: Path, record: Record) -> None:
    """Write down a step so that a kill leaves the old record or this one."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as stream:
        json.dump({"phase": record.phase, "revision": record.revision}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def connect(database: str | None = SCHEMA) -> Any:
    """Return a connection to MySQL, waiting until it listens.

    Raises:
        RefusedError: It does not within `PATIENCE` seconds.
    """
    import pymysql

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return pymysql.connect(
                host="mysql",
                database=database,
                read_default_file=OPTIONS,
                charset="utf8mb4",
                connect_timeout=5,
                autocommit=True,
            )
        except pymysql.err.OperationalError as error:
            if time.monotonic() > deadline:
                raise RefusedError(f"MySQL does not answer: {error}") from error
            time.sleep(0.1)


def inspect(cursor: Any) -> Found:
    """Look at the schema."""
    cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
    tables = {row[0] for row in cursor.fetchall()}
    if "alembic_version" not in tables:
        return Found(len(tables), None)
    cursor.execute("SELECT version_num FROM alembic_version")
    rows = cursor.fetchall()
    return Found(len(tables), rows[0][0] if len(rows) == 1 else None)


def load(cursor: Any) -> None:
    """Make the schema from the one that was prepared when the image was baked."""
    for statement in statements((SHARE / "schema.sql").read_text()):
        cursor.execute(without_definer(statement))


def start_over(cursor: Any) -> None:
    """Empty the schema that a cut-off first migration left."""
    cursor.execute(f"DROP DATABASE `{SCHEMA}`")
    cursor.execute(f"CREATE DATABASE `{SCHEMA}` CHARACTER SET utf8mb4 COLLATE {COLLATION}")
    cursor.execute(f"USE `{SCHEMA}`")


def upgrade() -> None:
    """Let MLflow run its own migrations."""
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", URI], check=True)


def migrate(target: Target) -> Step:
    """Bring the schema to the revision of this image's MLflow.

    Raises:
        RefusedError: It is not for a program to decide.
    """
    done = Record("done", target.revision)
    record = read_record(RECORD)
    with connect() as connection, connection.cursor() as cursor:
        step = decide(record, inspect(cursor), target)
        print(step.value, flush=True)
        if step in (Step.LOAD, Step.START_OVER):
            write_record(RECORD, Record("first", target.revision))
            if step is Step.START_OVER:
                start_over(cursor)
            load(cursor)
        elif step is Step.UPGRADE:
            write_record(RECORD, Record("upgrade", target.revision))
            upgrade()
        found = inspect(cursor)
    if found.revision != target.revision:
        raise RefusedError(f"the schema is at {found.revision} after the migration")
    if record != done:
        write_record(RECORD, done)
    return step


def describe() -> dict[str, Any]:
    """Return the head of MLflow's migrations and all revisions below it."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    script = ScriptDirectory.from_config(utils._get_alembic_config(db_url=""))
    head = utils._get_latest_schema_revision()
    ancestors = [revision.revision for revision in script.iterate_revisions(head, "base")]
    return {"mlflow": mlflow.__version__, "revision": head, "ancestors": sorted(ancestors[1:])}


def main(arguments: Sequence[str]) -> int:
    """Run `migrate` (at each start) or `bake` (once, on an empty database); the exit code."""
    os.umask(0o077)  # what it leaves behind is nobody else's business
    if list(arguments) == ["bake"]:
        connect().close()
        upgrade()
        MARK.write_text(json.dumps(describe(), indent=2) + "\n")
        return 0
    try:
        migrate(Target(**json.loads((SHARE / "schema.json").read_text())))
    except RefusedError as refusal:
        print(f"REFUSED: {refusal}", file=sys.stderr)
        return 1
    MARK.write_text("")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
