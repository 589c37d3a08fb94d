"""What cloud-init brings: golden documents, unmangled symbols, and when a machine must learn."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from pydantic import SecretStr

from bakery import machine
from bakery.environment import digest, environment, hash_password, user_data
from bakery.network import Network
from bakery.render import render
from bakery.state import Deployment, Secrets
from bakery.targets.base import BlobAccess
from bakery.tls import Certificate
from tests.unit.samples import ALL_SYMBOLS, assert_golden

PUBLIC = "ssh-ed25519 AAAA mlflow-bakery"
HASH = "$2b$05$abcdefghijklmnopqrstuuRGxkuhFVVSnGkbSD0YVkYBcTC7KAJSK"


def values(**changes: Any) -> dict[str, Any]:
    given = {
        "username": "mlflow",
        "hostname": "mlflow.bakery.internal",
        "hash": HASH,
        "mysql": None,
        "mysql_user": "mlflow",
        "served": False,
        "key": "a2V5",
        "endpoint": "http://10.88.0.1:10000/devstoreaccount1",
        "certificate": "CHAIN\n",
        **changes,
    }
    deployment = Deployment(
        name="mlflow",
        hostname=given["hostname"],
        username=given["username"],
        data_disk_uuid="00000000-0000-4000-8000-000000000000",
        data_disk_served=given["served"],
    )
    secrets = Secrets(
        password=SecretStr("unused"),
        password_hash=given["hash"],
        storage_key=SecretStr(given["key"]),
        mysql_password=given["mysql"],
    )
    blob = BlobAccess("devstoreaccount1", "mlflow", SecretStr(given["key"]), "http://elsewhere")
    return environment(
        deployment,
        secrets,
        mysql_user=given["mysql_user"],
        blob=blob,
        blob_endpoint=given["endpoint"],
        certificate=Certificate(chain=given["certificate"], key="KEY\n"),
    )


def brought(document: str) -> str:
    """What cloud-init would write into the machine."""
    (file,) = yaml.safe_load(document)["write_files"]
    assert (file["path"], file["permissions"]) == ("/etc/mlflow-bakery/environment.json", "0600")
    return base64.b64decode(file["content"]).decode()


def test_the_rendered_documents() -> None:
    assert_golden("user-data.yaml", user_data(values(), 3))
    meta = render(
        "cloud-init/meta-data.yaml.j2", instance="abc-1-0", hostname="mlflow", public_key=PUBLIC
    )
    assert_golden("meta-data.yaml", meta)
    build = render("cloud-init/build-user-data.yaml.j2", public_key=PUBLIC)
    assert_golden("build-user-data.yaml", build)


def test_the_rendered_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_name_servers", lambda: ["192.0.2.53", "2001:db8::53"])
    found = machine.network_config(Network("bk1", "10.88.0.16/28"), ["10.88.0.20", "10.88.0.18"])
    assert_golden("network-config.yaml", found)


@pytest.mark.parametrize("symbols", [ALL_SYMBOLS, " äß€漢 \" ' \\ $HOME {{ x }} %{ ${ "])
def test_every_symbol_arrives_in_the_machine(symbols: str) -> None:
    made = values(username=symbols, mysql=SecretStr(symbols), mysql_user=symbols)
    found = json.loads(brought(user_data(made, 1)))
    assert found["users"] == {symbols: HASH}
    assert found["mysql"] == {"user": symbols, "password": symbols}


def test_the_hash_is_of_the_password_and_of_no_other() -> None:
    password = "ä" * 36
    made = hash_password(password).encode()
    assert bcrypt.checkpw(password.encode(), made)
    assert not bcrypt.checkpw(password[:-1].encode(), made)


@pytest.mark.parametrize(
    "change",
    [
        {"username": "other"},
        {"hostname": "other.example.org"},
        {"hash": f"{HASH[:-1]}x"},
        {"mysql": SecretStr("new")},
        {"mysql_user": "other"},
        {"key": "b3RoZXI="},
        {"endpoint": None},
        {"certificate": "RENEWED\n"},
    ],
    ids=str,
)
def test_a_change_that_the_machine_must_learn_is_seen(change: dict[str, Any]) -> None:
    assert digest(values(**change)) != digest(values())


def test_what_changes_by_itself_makes_no_new_machine() -> None:
    assert digest(values(served=True)) == digest(values())
    assert values(served=True)["data_disk"]["first"] is False
    assert values()["data_disk"]["first"] is True


def test_a_seed_is_nobody_else_s(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()
    machine.write_seed(spec, "user", "meta", "network")
    assert spec.seed.stat().st_mode & 0o777 == 0o700
    found = {
        path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in spec.seed.iterdir()
    }
    assert found == {
        "user-data": ("user", 0o600),
        "meta-data": ("meta", 0o600),
        "network-config": ("network", 0o600),
    }


def test_name_servers_of_the_host_s_own_loop_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# note\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch x\nnameserver\n")
    monkeypatch.setattr(machine, "Path", lambda name: file if "resolve" in name else Path(name))
    assert machine._name_servers() == ["192.0.2.1"]
