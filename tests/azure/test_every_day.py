"""What one does with a deployment every day, in Azure: by Run Command, from any folder."""

import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from pydantic import SecretStr

from bakery import backup as backups
from bakery import users
from bakery.checks.door import READY, Login, ask, front
from bakery.deploy import rollback, start, stop
from bakery.errors import InputError
from bakery.inside import console, logs
from bakery.status import history, status
from tests.azure.stage import Stage
from tests.e2e.bakery import INVOKE, PROJECT

OLD = "20261126-100000-aaaaaaaa"


def logs_in(stage: Stage, name: str, password: str) -> int:
    door = front(stage.seen().server().as_client)
    return ask(door, READY, login=Login(name, SecretStr(password))).status_code


def password(stage: Stage) -> str:
    return stage.seen().secrets.password.get_secret_value()


def opens(stage: Stage, key: SecretStr) -> bool:
    """Return whether Blob takes a storage key."""
    account = stage.seen().account
    client = stage.seen().azure.clients.blobs(
        account.endpoint, account.name, key.get_secret_value()
    )
    try:
        return client.get_container_client("bakery").exists()
    except HttpResponseError:
        return False


def run(stage: Stage, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb as a user does, with the stage's settings in the environment."""
    told = {f"BAKERY_{name.upper()}": str(value) for name, value in stage.given.items()}
    return subprocess.run(
        [*INVOKE, *words], env={**os.environ, **told}, cwd=PROJECT, input=given, text=True,
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_user_is_let_in_by_one_colleague_and_shut_out_by_another(deployed: Stage) -> None:
    word = users.add(deployed.settings, "ann", None, show=True)
    assert logs_in(deployed, "ann", word) == 200
    assert logs_in(deployed, "ann", f"{word}x") == 401
    other = deployed.colleague()
    assert users.listed(other.settings) == ["mlflow", "ann"]
    users.add(other.settings, "ann", SecretStr("another-password"), show=True)
    assert logs_in(deployed, "ann", word) == 401
    assert logs_in(deployed, "ann", "another-password") == 200
    users.remove(other.settings, "ann")
    assert logs_in(deployed, "ann", "another-password") == 401
    assert logs_in(deployed, "mlflow", password(deployed)) == 200
    with pytest.raises(InputError, match="no user is called ann"):
        users.remove(deployed.settings, "ann")
    with pytest.raises(InputError, match="own user"):
        users.remove(deployed.settings, "mlflow")


def test_what_was_rotated_ends_at_once_and_stays_so(deployed: Stage) -> None:
    old, keys = password(deployed), list(deployed.seen().keys.values())
    assert all(opens(deployed, key) for key in keys)
    users.change(deployed.settings, password=True, storage_key=True)
    other = deployed.colleague("after-rotate")
    assert password(other) != old
    assert logs_in(other, "mlflow", password(other)) == 200
    assert logs_in(other, "mlflow", old) == 401
    assert [opens(other, key) for key in keys] == [False, False]
    assert opens(other, other.seen().secrets.storage_key)
    # The machine has the key that counts, and no other.
    target = other.seen()
    current = target.deployment.generation
    assert current is not None
    told = target.execute(current, ["cat", "/var/lib/mlflow-data/environment.json"])
    known = json.loads(told.out)["storage"]["key"]
    assert known == target.secrets.storage_key.get_secret_value()
    before = target.deployment.last_number
    other.deploy(image=OLD)
    assert other.seen().deployment.last_number == before, "the next deploy has nothing to do"
    deployed.check_tidy()


@pytest.mark.parametrize("part", ["password", "storage_key"])
def test_one_of_both_is_rotated(deployed: Stage, part: str) -> None:
    before = deployed.seen().secrets
    parts = {"password": part == "password", "storage_key": part == "storage_key"}
    users.change(deployed.settings, password=parts["password"], storage_key=parts["storage_key"])
    after = deployed.seen().secrets
    changed = {
        "password": before.password != after.password,
        "storage_key": before.storage_key != after.storage_key,
    }
    assert changed == parts


def test_what_was_rotated_counts_for_the_generation_that_was_kept(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    stage.deploy()
    stage.deploy(replace=True)
    old = password(stage)
    users.change(stage.settings, password=True, storage_key=True)
    word = users.add(stage.settings, "ann", None, show=True)
    rollback(stage.settings)
    assert logs_in(stage, "mlflow", password(stage)) == 200
    assert logs_in(stage, "ann", word) == 200
    assert logs_in(stage, "mlflow", old) == 401
    stage.check_tidy()


def test_a_rotation_is_refused_where_the_server_is_stopped(deployed: Stage) -> None:
    before = deployed.seen().secrets
    stop(deployed.settings)
    for change in (
        partial(users.change, password=True, storage_key=True),
        partial(users.add, name="ann", password=None, show=True),
        backups.backup,
        backups.backups,
        partial(logs, service="mlflow"),
    ):
        with pytest.raises(InputError, match="is stopped"):
            change(deployed.settings)
    start(deployed.settings)
    assert deployed.seen().secrets == before
    deployed.check_tidy()


def test_a_backup_lies_on_the_disk_and_in_blob(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.deploy()
    assert backups.backups(stage.settings) == []
    assert status(stage.settings)["last_backup"] is None
    stage.log_run("in the backup")
    made = backups.backup(stage.settings)
    assert made["rows"]["experiments"] == len(stage.runs())
    [found] = backups.backups(stage.colleague().settings)
    assert (found["name"], found["places"]) == (made["name"], ["data disk", "Blob"])
    last = status(stage.settings)["last_backup"]
    assert last["name"] == made["name"]
    # What is on the disk only, and what is in Blob only, is told.
    store = stage.data() / "backups/store"
    for path in store.iterdir():
        path.unlink()
    [found] = backups.backups(stage.settings)
    assert found["places"] == ["Blob"]
    account, target = stage.fake.stores, stage.seen()
    key = target.secrets.storage_key.get_secret_value()
    account.delete_container(target.account.name, key, "mlflow-backups")
    assert backups.backups(stage.settings) == []
    again = backups.backup(stage.settings)
    assert {one["name"] for one in backups.backups(stage.settings)} == {again["name"]}
    stage.deploy(replace=True)
    assert [one["name"] for one in backups.backups(stage.settings)] == [again["name"]]


def test_a_backup_that_cannot_be_copied_does_not_count(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.deploy()
    # Behind everybody's back the key that the machine has ends.
    account = stage.seen().account
    for name in ("key1", "key2"):
        account.renew_key(name)
    with pytest.raises(Exception, match="backup tool failed: make") as failed:
        backups.backup(stage.settings)
    assert "Blob: " in failed.value.tail  # type: ignore[attr-defined]


def test_logs_come_by_command_where_no_ssh_is_open(
    deployed: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs(deployed.settings, "mlflow", lines=7) == 0
    told = capsys.readouterr().out
    assert "mlflow-mlflow-1 on standard output" in told
    assert "mlflow-mlflow-1 on standard error" in told
    assert "--tail 7 " in told
    assert logs(deployed.settings, "traefik", since="2026-11-26T10:00") == 0
    told = capsys.readouterr().out
    assert "mlflow-traefik-1" in told
    assert "--tail all --since 2026-11-26T" in told
    assert logs(deployed.settings, "machine") == 0
    assert "login:" in capsys.readouterr().out
    with pytest.raises(InputError, match="no SSH is open") as refused:
        logs(deployed.settings, "mlflow", follow=True)
    assert "--since" in refused.value.hint
    with pytest.raises(InputError, match="there is no service nginx"):
        logs(deployed.settings, "nginx")
    assert console(deployed.settings) == 0
    assert "login:" in capsys.readouterr().out


def test_a_log_that_is_longer_than_azure_returns_comes_whole(
    deployed: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    target = deployed.seen()
    current = target.deployment.generation
    assert current is not None
    # So that it does not become short when it is packed.
    lines = "".join(f"{os.urandom(40).hex()}\n" for _ in range(200))
    names = target.azure.names
    machine = names.id_of("Microsoft.Compute/virtualMachines", names.machine(current.number))
    with (deployed.machines._root(machine) / "console.log").open("a", encoding="utf-8") as file:
        file.write(lines)
    assert logs(deployed.settings, "machine", lines=300) == 0
    assert lines in capsys.readouterr().out


def test_status_tells_what_is_inside(deployed: Stage) -> None:
    told = status(deployed.colleague("looks").settings)
    assert told["state"] == "ready"
    assert set(told["containers"]) == {"mysql", "mlflow", "traefik"}
    assert all(one.startswith("Up ") for one in told["containers"].values())
    assert "% of " in told["data_disk"]
    assert told["url"] == f"https://{told['hostname']}"
    assert (told["pending"], told["drift"]) == (None, [])
    stop(deployed.settings)
    told = status(deployed.settings)
    assert (told["state"], told["containers"], told["data_disk"]) == ("stopped", {}, None)
    start(deployed.settings)
    assert status(deployed.settings)["state"] == "ready"


def test_history_is_the_same_from_everywhere(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.deploy()
    stage.colleague("one").deploy(replace=True)
    rollback(stage.colleague("two").settings)
    told = history(stage.settings)
    assert told == history(stage.colleague("three").settings)
    assert [(one.action, one.generation, one.outcome) for one in told] == [
        ("deploy", 1, "replaced"),
        ("deploy", 2, "rolled back"),
        ("rollback", 1, "serving"),
    ]
    assert {one.image for one in told} == {OLD}


def test_the_verbs_themselves(deployed: Stage) -> None:
    def of(*words: str) -> Any:
        done = run(deployed, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert of("status", "--json")["state"] == "ready"
    assert of("history", "--json")[-1]["outcome"] == "serving"
    made = of("backup", "--json")
    assert made["name"] in [one["name"] for one in of("backup", "--list", "--json")]
    added = run(deployed, "users", "--add", "eve")
    assert added.returncode == 0, added.stderr
    # It is where the state is, and not on this host.
    assert "secrets.json in the container bakery" in added.stderr
    assert deployed.seen().secrets.passwords["eve"].get_secret_value() not in added.stderr
    assert run(deployed, "users").stdout == "mlflow\neve\n"
    assert run(deployed, "users", "--remove", "eve").returncode == 0
    rotated = run(deployed, "rotate", "--password-stdin", "--password", given="a-new-password\n")
    assert rotated.returncode == 0, rotated.stderr
    assert logs_in(deployed, "mlflow", "a-new-password") == 200
    shown = run(deployed, "logs", "--service", "mysql", "--lines", "3")
    assert shown.returncode == 0, shown.stderr
    assert "mlflow-mysql-1 on standard output" in shown.stdout
