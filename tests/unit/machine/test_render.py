import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow_bakery_machine.environment import Environment, parse_environment
from mlflow_bakery_machine.files import Rendered
from mlflow_bakery_machine.render import render, traefik_dynamic

from tests.unit.machine.samples import IMAGES, ROOT, SYMBOLS, environment_text

GOLDEN = Path(__file__).parent / "golden"
STATIC = (ROOT / "compose/traefik/traefik.yaml").read_text()
ACME = {"email": "a@example.com", "directory": "https://acme.example.com/directory"}
AZURE = {"account": "account", "container": "c", "key": "k==", "blob_endpoint": None}


def sample(**changes: Any) -> Environment:
    return parse_environment(environment_text(**changes), "test")


def rendered(environment: Environment, password: str = "secret") -> dict[str, Rendered]:
    return render(environment, mysql_password=password, images=IMAGES, traefik_static=STATIC)


@pytest.mark.parametrize(
    ("name", "environment"),
    [("local", sample()), ("azure", sample(tls=None, acme=ACME, storage=AZURE))],
)
def test_rendered_files_are_as_recorded(name: str, environment: Environment) -> None:
    found = "".join(
        f"==> {path} {file.uid}:{file.gid} {file.mode:04o}\n{file.content.rstrip()}\n"
        for path, file in sorted(rendered(environment, "p'\"\\ss #é").items())
    )
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(found)
    assert found == golden.read_text()


def test_traefik_reads_back_the_users_as_given() -> None:
    users = {"a b": "$2b$05$x/.", "ü": "$2b$05$y", 'q"\\': "$2b$05$z"}
    files = rendered(sample(users=users))
    dynamic = yaml.safe_load(files["traefik/dynamic/mlflow.yaml"].content)
    found = dynamic["http"]["middlewares"]["login"]["basicAuth"]["users"]
    assert dict(entry.rsplit(":", 1) for entry in found) == users


def test_only_health_is_open_and_only_exactly() -> None:
    files = rendered(sample())
    dynamic = yaml.safe_load(files["traefik/dynamic/mlflow.yaml"].content)
    routers = dynamic["http"]["routers"]
    without_login = {
        name
        for name, router in routers.items()
        if not {"login", "deny"} & set(router["middlewares"])
    }
    assert without_login == {"health"}
    assert routers["health"]["rule"].endswith("&& Path(`/health`)")
    assert routers["denied"]["priority"] > routers["health"]["priority"]
    for path in ("/metrics", "/gateway", "/ajax-api/3.0/mlflow/assistant"):
        assert f"PathPrefix(`{path}`)" in routers["denied"]["rule"]


def test_of_the_gateway_only_its_empty_list_can_be_had() -> None:
    files = rendered(sample())
    routers = yaml.safe_load(files["traefik/dynamic/mlflow.yaml"].content)["http"]["routers"]
    asked = routers["no-gateway"]
    assert asked["rule"].endswith("&& Method(`GET`) && Path(`/ajax-api/2.0/mlflow/gateway-proxy`)")
    assert asked["priority"] > routers["denied"]["priority"]
    assert "login" in asked["middlewares"]
    # With a target MLflow would forward the request to it.
    assert "MLFLOW_DEPLOYMENTS_TARGET" not in (ROOT / "compose" / "compose.yaml").read_text()


def test_an_acme_server_is_asked_by_each_router() -> None:
    files = rendered(sample(tls=None, acme=ACME))
    static = yaml.safe_load(files["traefik/traefik.yaml"].content)
    assert static["certificatesResolvers"]["acme"] == {
        "acme": {
            "email": ACME["email"],
            "caServer": ACME["directory"],
            "storage": "/acme/acme.json",
            "tlsChallenge": {},
        }
    }
    dynamic = yaml.safe_load(files["traefik/dynamic/mlflow.yaml"].content)
    assert all(
        router["tls"] == {"certResolver": "acme"} for router in dynamic["http"]["routers"].values()
    )
    assert "traefik/dynamic/key.pem" not in files


def test_secrets_are_only_in_files_of_their_reader() -> None:
    environment = sample()
    readers = {
        path.split("/")[0]
        for path, file in rendered(environment, SYMBOLS).items()
        for secret in (environment.storage.key, environment.key)
        if secret is not None and secret in file.content
    }
    assert readers == {"mlflow", "traefik"}
    for path, file in rendered(environment).items():
        assert file.mode == 0o400
        assert (file.uid == 0) == (path == "compose.env")
    assert "secret" not in rendered(environment)["compose.env"].content


def test_the_storage_key_is_last_seen_in_the_connection_string() -> None:
    local = rendered(sample())["mlflow/storage"].content
    assert dict(part.split("=", 1) for part in local.split(";")) == {
        "AccountName": "devstoreaccount1",
        "AccountKey": "Zm9v+/==",
        "DefaultEndpointsProtocol": "http",
        "BlobEndpoint": "http://10.88.0.1:10000/devstoreaccount1",
    }
    azure = rendered(sample(storage=AZURE))["mlflow/storage"].content
    assert "EndpointSuffix=core.windows.net" in azure


def test_with_an_identity_there_is_no_key_anywhere() -> None:
    storage = {**AZURE, "key": None, "client_id": "c1", "blob_endpoint": "https://account.example"}
    files = rendered(sample(storage=storage))
    assert files["mlflow/storage"].content == "ClientId=c1;BlobEndpoint=https://account.example"
    assert not [name for name, file in files.items() if "AccountKey" in file.content]


def test_artifacts_are_where_mlflow_looks_in_each_cloud() -> None:
    for host in ("core.windows.net", "core.chinacloudapi.cn"):
        storage = {**AZURE, "blob_endpoint": f"https://account.blob.{host}"}
        variables = rendered(sample(storage=storage))["compose.env"].content
        assert f"wasbs://c@account.blob.{host}/" in variables


def test_an_acme_server_of_ones_own_is_trusted_by_its_authority() -> None:
    files = rendered(sample(tls=None, acme={**ACME, "email": "", "ca": "PEM\n"}))
    static = yaml.safe_load(files["traefik/traefik.yaml"].content)
    resolver = static["certificatesResolvers"]["acme"]["acme"]
    assert resolver["caCertificates"] == ["/etc/traefik/acme-ca.pem"]
    assert "email" not in resolver
    assert files["traefik/acme-ca.pem"].content == "PEM\n"


def test_the_environment_of_the_bake_can_be_rendered() -> None:
    script = (ROOT / "packer/provision/50-schema.sh").read_text()
    text = script.split("<<'JSON'\n")[1].split("\nJSON\n")[0]
    assert json.loads(text)["deployment"] == "bake"
    assert "compose.env" in rendered(parse_environment(text, "50-schema.sh"))


def test_until_clients_are_admitted_only_the_check_gets_in() -> None:
    environment = sample(check_token="t0ken")
    shut, open_ = (traefik_dynamic(environment, admitted)["http"] for admitted in (False, True))
    gate = shut["routers"].pop("gate")
    assert shut["routers"] == open_["routers"], "the check comes in by the same door"
    assert gate["rule"] == "Host(`mlflow.bakery.internal`) && !Header(`X-Bakery-Check`, `t0ken`)"
    assert gate["priority"] > max(one["priority"] for one in shut["routers"].values())
    assert shut["services"][gate["service"]]["loadBalancer"]["servers"] == []
    headers = [shut["middlewares"][name]["headers"] for name in gate["middlewares"]]
    assert headers == [{"customResponseHeaders": {"Retry-After": "5"}}]
    # The token goes no further than Traefik.
    assert open_["middlewares"]["headers"]["headers"]["customRequestHeaders"] == {
        "X-Bakery-Check": ""
    }
    assert "t0ken" not in str(open_)


def test_without_a_token_everybody_is_let_in() -> None:
    environment = sample()
    assert "gate" not in traefik_dynamic(environment, admitted=False)["http"]["routers"]
