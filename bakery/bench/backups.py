"""How fast a database is backed up and restored, beside plain mysqldump and mysql."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bakery import backup, checks, targets
from bakery.bake import bake
from bakery.bench.measure import Measure, ratio
from bakery.checks import door
from bakery.deploy import deploy
from bakery.errors import BakeryError
from bakery.settings import Settings
from bakery.state import Generation
from bakery.targets.base import Server, Target

_SECONDS = 1800
_CLIENT = "--defaults-file=/run/secrets/client.cnf"
_COMPOSE = (
    "docker compose --file /usr/share/mlflow-bakery/compose/compose.yaml"
    " --env-file /run/mlflow-bakery/compose.env"
)
_DUMP = "/var/lib/mlflow-data/backups/plain.sql"
_PLAIN_DUMP = f"""
docker exec mlflow-mysql-1 mysqldump {_CLIENT} --single-transaction --no-tablespaces \\
    --set-gtid-purged=OFF --loose-masking-policies=0 mlflow >{_DUMP}
sync {_DUMP}
"""
_PLAIN_LOAD = f"docker exec --interactive mlflow-scratch-1 mysql {_CLIENT} mlflow <{_DUMP}"
_START_SCRATCH = f"""
{_COMPOSE} up --detach --no-build --no-deps scratch
until docker exec mlflow-scratch-1 mysql {_CLIENT} --execute 'SELECT 1' mlflow; do sleep 0.2; done
"""
_STOP_SCRATCH = f"{_COMPOSE} rm --stop --force scratch; rm -rf /var/lib/mlflow-data/mysql/scratch/*"
_FILL = """
docker exec --interactive mlflow-mysql-1 \\
    mysql --defaults-file=/run/secrets/client.cnf mlflow <<'SQL'
SET SESSION cte_max_recursion_depth = 500000;
INSERT INTO metrics (`key`, value, timestamp, run_uuid, step, is_nan)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000)
SELECT CONCAT('m', i MOD 50), i / 7, i, 'RUN', i, 0 FROM n;
SQL
"""


def backups(settings: Settings, runs: int) -> list[Measure]:
    """Row (g): MB/s of SQL; ours also packs, verifies, copies to Blob and compares every table."""
    server = deploy(settings, image=bake(settings).id)
    with _machine(settings) as (target, generation):
        _script(target, generation, _FILL.replace("RUN", _new_run(server)))
        dumps = [_seconds(lambda: _script(target, generation, _PLAIN_DUMP)) for _ in range(runs)]
        megabytes = float(_script(target, generation, f"stat --format %s {_DUMP}")) / 1e6
        loads = [_plain_load(target, generation) for _ in range(runs)]
        _script(target, generation, f"rm {_DUMP}")
    made: list[dict[str, Any]] = []
    ours = [_seconds(lambda: made.append(backup.backup(settings))) for _ in range(runs)]
    name = str(made[-1]["name"])
    drills = [_seconds(lambda: backup.restore(settings, name, drill=True)) for _ in range(runs)]
    restores = [
        _seconds(lambda: backup.restore(settings, name, replace_data=True)) for _ in range(runs)
    ]

    def rate(what: str, seconds: list[float]) -> Measure:
        return Measure("g", what, [megabytes / one for one in seconds], "MB/s")

    plain, backed_up = rate("plain mysqldump", dumps), rate("backup", ours)
    plain_load, drilled = rate("plain mysql", loads), rate("restore --drill", drills)
    return [
        Measure("g", "the database as SQL", [megabytes], "MB"),
        *(plain, backed_up, plain_load, drilled),
        rate("restore, with a backup of what is replaced and the restart", restores),
        ratio("g", "mysqldump : backup", plain, backed_up, ""),
        ratio("g", "mysql : restore --drill", plain_load, drilled, ""),
    ]


def _plain_load(target: Target, generation: Generation) -> float:
    _script(target, generation, _START_SCRATCH)
    try:
        return _seconds(lambda: _script(target, generation, _PLAIN_LOAD))
    finally:
        _script(target, generation, _STOP_SCRATCH)


def _new_run(server: Server) -> str:
    checks.wait_ready(server, deadline=60)
    front = door.front(server)
    body = {"experiment_id": "0", "start_time": 1}
    made = door.ask(
        front, "/api/2.0/mlflow/runs/create", login=front.login, method="POST", json=body
    )
    return str(made.json()["run"]["info"]["run_id"])


@contextmanager
def _machine(settings: Settings) -> Iterator[tuple[Target, Generation]]:
    with targets.opened(settings) as target:
        generation = target.deployment.generation
        if generation is None:
            raise BakeryError("the benchmark's deployment has no machine")
        yield target, generation


def _script(target: Target, generation: Generation, text: str) -> str:
    done = target.execute(generation, ["sh", "-e", "-s"], stdin=text, timeout=_SECONDS)
    if done.code != 0:
        raise BakeryError("a command of the benchmark failed", tail=done.err)
    return done.out


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
