"""A rotation that is killed at any call to Azure or write of the state; the next call ends it."""

from collections.abc import Callable
from functools import partial

import pytest
from azure.core.exceptions import HttpResponseError
from pydantic import SecretStr

from bakery import users
from bakery.checks.door import READY, Login, ask, front
from bakery.deploy import start
from bakery.state import Secrets
from tests.azure.blob_door import Door
from tests.azure.matrix import KILLS, Case, Matrix, cases, killed, write
from tests.azure.stage import Stage, in_its_own_process

pytestmark = pytest.mark.matrix

_OF_STATE = "write of the state "


def logs_in(stage: Stage, password: SecretStr) -> int:
    server = stage.seen().server()
    login = Login(server.username, password)
    return ask(front(server.as_client), READY, login=login).status_code


def opens(stage: Stage, key: SecretStr) -> bool:
    target = stage.seen()
    account, clients = target.account, target.azure.clients
    blobs = clients.blobs(account.endpoint, account.name, key.get_secret_value())
    try:
        return blobs.get_container_client("bakery").exists()
    except HttpResponseError:
        return False


def check_what_holds(stage: Stage, before: Secrets) -> str:
    """See that what the state says holds everywhere, and what it no more says nowhere."""
    target = stage.seen()
    now, current = target.secrets, target.deployment.generation
    assert current is not None
    assert now.previous_storage_key is None
    assert logs_in(stage, now.password) == 200
    assert opens(stage, now.storage_key)
    told = target.execute(current, ["cat", "/var/lib/mlflow-data/environment.json"]).out
    assert f'"{now.storage_key.get_secret_value()}"' in told
    if now.password != before.password:
        assert logs_in(stage, before.password) == 401
    if now.storage_key != before.storage_key:
        assert not opens(stage, before.storage_key)
        assert before.storage_key.get_secret_value() not in told
    changed = [now.password != before.password, now.storage_key != before.storage_key]
    words = {(False, False): "what was there holds", (True, False): "the new password holds"}
    return words.get((changed[0], changed[1]), "the new password and key hold")


def test_a_rotation_killed_at_every_call(
    make_stage: Callable[..., Stage], door: Door, matrix: Matrix
) -> None:
    stage = make_stage()
    stage.deploy()

    def rotate() -> None:
        users.change(stage.settings, password=True, storage_key=True)

    first = len(door.writes)
    calls = stage.calls(partial(in_its_own_process, stage, rotate))
    writes = [one for one in door.writes[first:] if "renew" not in one]
    assert len(calls) > 20, calls
    assert len(writes) >= 8, writes
    of_state = [
        Case(case.kind, case.number, _OF_STATE + case.call) for case in cases(writes, KILLS)
    ]

    def each(case: Case) -> str:
        before = stage.seen().secrets
        if case.call.startswith(_OF_STATE):
            killed(stage, case, rotate, door.faults, write(writes, case))
        else:
            killed(stage, case, rotate, stage.fake.faults)
        known = (before.password, stage.seen().secrets.password)
        assert 200 in {logs_in(stage, one) for one in known}, "somebody is let in meanwhile"
        in_its_own_process(stage, partial(start, stage.settings))
        stage.check_tidy()
        return check_what_holds(stage, before)

    matrix.run("Azure: a rotation killed at every call", [*cases(calls, KILLS), *of_state], each)
