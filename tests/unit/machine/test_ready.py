from typing import Any

import pytest
from mlflow_bakery_machine.ready import MIGRATE, MLFLOW, MYSQL, TRAEFIK, Verdict, judge

HEALTHY = {"Status": "running", "Health": {"Status": "healthy"}}
READY: dict[str, Any] = {
    MYSQL: HEALTHY,
    MLFLOW: HEALTHY,
    TRAEFIK: HEALTHY,
    MIGRATE: {"Status": "exited", "ExitCode": 0},
}


def test_all_healthy_and_migrated_is_ready() -> None:
    assert judge(READY) is Verdict.READY


@pytest.mark.parametrize("name", [MYSQL, MLFLOW, TRAEFIK, MIGRATE])
def test_each_container_counts(name: str) -> None:
    starting = {"Status": "running", "Health": {"Status": "starting"}}
    assert judge({**READY, name: starting}) is Verdict.WAIT
    assert judge({key: state for key, state in READY.items() if key != name}) is Verdict.WAIT


def test_a_failed_migration_ends_the_wait() -> None:
    assert judge({MIGRATE: {"Status": "exited", "ExitCode": 1}}) is Verdict.FAILED
