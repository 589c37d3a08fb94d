"""Secrets: what is given, kept, made, rotated away, and what comes out of the file again."""

import json
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from pydantic import SecretStr

from bakery import credentials, environment, settings
from bakery.azurite import Azurite
from bakery.errors import InputError
from bakery.state import Deployment, DeploymentFolder, Event, Generation, Pending, Secrets


def given(**values: Any) -> settings.Settings:
    return settings.Settings(name="x", **values)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AZURE_STORAGE_ACCESS_KEY", "MYSQL_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "bakery.toml"
    empty.write_text("")
    monkeypatch.setenv("BAKERY_CONFIG", str(empty))


def fits(password: str, hashed: str) -> bool:
    return bcrypt.checkpw(password.encode(), hashed.encode())


def test_what_is_not_given_is_made_once_and_kept() -> None:
    first = credentials.settled(given(), None)
    assert fits(first.password.get_secret_value(), first.password_hash)
    assert credentials.settled(given(), first) == first
    assert credentials.settled(given(), None).password != first.password


def test_what_is_given_wins() -> None:
    first = credentials.settled(given(), None)
    second = credentials.settled(given(password="other", mysql_password="db"), first)
    assert second.password == SecretStr("other")
    assert fits("other", second.password_hash)
    assert second.mysql_password == SecretStr("db")
    assert second.storage_key == first.storage_key
    assert second.previous_storage_key is None


def test_a_password_that_was_rotated_away_is_not_taken_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = credentials.settled(given(password="old"), None)
    rotated = credentials.with_password(first)
    assert rotated.password != first.password
    assert credentials.settled(given(password="old"), rotated) == rotated
    assert "rotated away" in capsys.readouterr().err
    # Who asks for it by name gets it, and may then give it again.
    back = credentials.with_password(rotated, SecretStr("old"))
    assert credentials.settled(given(password="old"), back).password == SecretStr("old")
    assert not any(fits("old", one) for one in back.retired)


def test_a_new_storage_key_leaves_the_old_one_valid_for_a_while() -> None:
    first = credentials.settled(given(), None)
    second = credentials.with_storage_key(first)
    assert second.previous_storage_key == first.storage_key != second.storage_key
    key = "bm90IHRoaXM="
    third = credentials.settled(given(storage_access_key=key), first)
    assert (third.storage_key, third.previous_storage_key) == (SecretStr(key), first.storage_key)


def test_azurite_knows_both_keys_while_there_are_two(tmp_path: Path) -> None:
    one = Azurite(folder=tmp_path, address="127.0.0.1", account="acc", key="new")
    two = Azurite(folder=tmp_path, address="127.0.0.1", account="acc", key="new", other_key="old")
    assert one._accounts == {"AZURITE_ACCOUNTS": "acc:new"}
    assert two._accounts == {"AZURITE_ACCOUNTS": "acc:new:old"}


def test_secrets_come_out_of_the_file_as_they_went_in(tmp_path: Path) -> None:
    folder = DeploymentFolder(tmp_path, "x")
    made = credentials.settled(given(password="pä\"ss'"), None).model_copy(
        update={"users": {"ann": "hash"}, "passwords": {"bob": SecretStr("bob's")}}
    )
    made = credentials.with_storage_key(made)
    folder.save_secrets(made)
    assert folder.load_secrets() == made
    assert folder.secrets.stat().st_mode & 0o777 == 0o600
    assert json.loads(folder.secrets.read_text())["passwords"] == {"bob": "bob's"}


def test_a_file_of_before_users_can_be_read(tmp_path: Path) -> None:
    old = {"password": "p", "password_hash": "h", "storage_key": "k", "mysql_password": None}
    folder = DeploymentFolder(tmp_path, "x")
    folder.path.mkdir(parents=True)
    folder.secrets.write_text(json.dumps(old))
    found = folder.load_secrets()
    assert found is not None
    assert found.logins("mlflow") == {"mlflow": "h"}


def test_the_own_user_cannot_be_taken_over() -> None:
    made = Secrets(
        password=SecretStr("p"), password_hash="own", storage_key=SecretStr("k"),
        users={"mlflow": "planted", "ann": "hers"},
    )  # fmt: skip
    assert made.logins("mlflow") == {"mlflow": "own", "ann": "hers"}


def test_a_digest_is_of_what_a_machine_is_told_not_of_its_number() -> None:
    values = {"users": {"a": "b"}, "data_disk": {"first": True}}
    same = {"users": {"a": "b"}, "data_disk": {"first": False}, "serial": 7}
    assert environment.digest(values) == environment.digest(same)
    assert environment.digest(values) != environment.digest({**values, "users": {}})
    assert json.loads(environment.as_text(values, 3)) == {**values, "serial": 3}


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [("a:b", None, "colon"), ("ann", "x" * 73, "72 bytes"), ("ann", "", "72 bytes"),
     ("", None, "72 bytes"),     ("a\nb", None, "control")],
)  # fmt: skip
def test_a_login_that_cannot_be_is_refused(name: str, password: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings.check_login(name, None if password is None else SecretStr(password))


def test_the_state_keeps_what_is_pending_and_what_was(tmp_path: Path) -> None:
    one, two = (Generation(number=number, image="i", revision="r") for number in (1, 2))
    pending = Pending(action="deploy", generation=two, step="attach", by="me@here")
    event = Event(
        action="deploy", generation=1, image="i", mlflow="3", revision="r",
        started=pending.started, by="me@here", seconds=1.5, outcome="serving",
    )  # fmt: skip
    made = Deployment(name="x", generation=one, pending=pending, history=[event], last_number=2)
    folder = DeploymentFolder(tmp_path, "x")
    folder.save(made)
    assert folder.load() == made
    assert made.kept == {1, 2}
    made.ended("replaced")
    assert made.history[0].outcome == "replaced"


def test_a_state_of_before_generations_were_kept_can_be_read(tmp_path: Path) -> None:
    folder = DeploymentFolder(tmp_path, "x")
    folder.save(Deployment(name="x", generation=Generation(number=4, image="i")))
    facts = json.loads(folder.facts.read_text())
    for name in ("previous", "last_number", "pending", "history"):
        del facts[name]
    for name in ("mlflow", "mysql", "revision"):
        del facts["generation"][name]
    folder.facts.write_text(json.dumps(facts))
    found = folder.load()
    assert found is not None
    assert found.kept == {4}
