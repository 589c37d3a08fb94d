"""What is refused of any request: no login, no version, another's subscription, a wrong body."""

import json
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.identity import AzureCliCredential, DefaultAzureCredential

from tests.azure import login, routing
from tests.azure.clients import Clients
from tests.azure.fake import Fake, serving
from tests.azure.operations import STYLES
from tests.unit.fake.estate import HERE, Estate
from tests.unit.fake.refused import refused


def raw(fake: Fake, path: str, token: str = "", **values: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(
        fake.url + path, headers=headers, verify=str(fake.ca_file), timeout=10, **values
    )


def group(fake: Fake) -> str:
    return f"/subscriptions/{fake.subscription}/resourcegroups/rg"


def test_no_token_and_a_wrong_one(fake: Fake, estate: Estate) -> None:
    version = {"api-version": routing.RESOURCES}
    token, _ = fake.tokens.issue(fake.tenant, 60)
    assert raw(fake, group(fake), token, params=version).status_code == 200
    missing = raw(fake, group(fake), params=version)
    assert missing.status_code == 401
    assert missing.headers["WWW-Authenticate"].startswith("Bearer")
    assert raw(fake, group(fake), "x", params=version).json()["error"]["code"] == (
        "InvalidAuthenticationToken"
    )


def test_an_expired_token(fake: Fake, clients: Clients, estate: Estate) -> None:
    clients.resource.resource_groups.get("rg")
    fake.tokens.expire()
    with refused("ExpiredAuthenticationToken", 401):
        clients.resource.resource_groups.get("rg")


def test_a_principal_signs_in(fake: Fake) -> None:
    clients = Clients(fake, secret="right")
    assert not clients.resource.resource_groups.check_existence("rg")
    assert "/oauth2/v2.0/token" in str(fake.journal.calls("POST"))


def test_a_wrong_secret(fake: Fake) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        Clients(fake, secret="wrong").resource.resource_groups.check_existence("rg")


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("", "MissingApiVersionParameter"),
        (routing.NETWORK, "InvalidApiVersionParameter"),
        ("2020-01-01", "InvalidApiVersionParameter"),
    ],
)
def test_the_api_version_is_exact(fake: Fake, estate: Estate, version: str, code: str) -> None:
    token, _ = fake.tokens.issue(fake.tenant, 60)
    values = {"api-version": version} if version else {}
    answer = raw(fake, group(fake), token, params=values)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_another_subscription_and_a_path_that_there_is_not(fake: Fake, clients: Clients) -> None:
    client = clients.resource
    version = {"api-version": routing.RESOURCES}
    for path, code in (
        ("/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/rg",
         "SubscriptionNotFound"),
        (f"/subscriptions/{fake.subscription}/nothing/here", "InvalidResourceType"),
        (group(fake), "ResourceGroupNotFound"),
    ):  # fmt: skip
        answer = client.send_request(HttpRequest("GET", path, params=version))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


def test_a_provider_that_is_not_registered() -> None:
    with serving() as fake:
        clients = Clients(fake)
        clients.resource.resource_groups.create_or_update("rg", {"location": HERE})
        body: Any = {
            "location": HERE,
            "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4},
        }
        disks, providers = clients.compute.disks, clients.resource.providers
        with refused("MissingSubscriptionRegistration", 409):
            disks.begin_create_or_update("rg", "data", body)
        assert providers.get("Microsoft.Compute").registration_state == "NotRegistered"
        providers.register("Microsoft.Compute")
        assert providers.get("Microsoft.Compute").registration_state == "Registering"
        assert providers.get("Microsoft.Compute").registration_state == "Registered"
        disks.begin_create_or_update("rg", "data", body).result()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"location": None}, "body.location: missing"),
        ({"hardware_profile": {}}, "body.hardware_profile: unknown"),
        ({"tags": "a"}, "body.tags: 'a' is not an object"),
        ({"properties": {"osProfile": {"customData": 1}}}, "customData: 1 is not str"),
        (
            {"properties": {"storageProfile": {"osDisk": {"createOption": "Fromage"}}}},
            "'Fromage' is none of FromImage, Empty, Attach",
        ),
        (
            {"properties": {"storageProfile": {"dataDisks": [{"lun": "0", "createOption": "x"}]}}},
            "body.properties.storageProfile.dataDisks[0].lun: '0' is not int",
        ),
        ({"properties": {"storageProfile": {"dataDisks": [{"lun": 0}]}}}, "createOption: missing"),
    ],
)
def test_a_body_that_is_not_of_its_kind(
    clients: Clients, estate: Estate, change: dict[str, Any], told: str
) -> None:
    body: Any = {"location": HERE, **change}
    body = {key: value for key, value in body.items() if value is not None}
    with refused("InvalidRequestContent", 400) as caught:
        clients.compute.virtual_machines.begin_create_or_update("rg", "one", body)
    assert told in str(caught.value)


def test_a_failed_operation_in_each_protocol(fake: Fake, clients: Clients, estate: Estate) -> None:
    for style in STYLES:
        fake.options.style = style
        fake.fault("fail", method="PUT", path=f"/disks/d-{style}$", code="AllocationFailed")
        with refused("AllocationFailed") if style != "body" else pytest.raises(HttpResponseError):
            estate.disk(f"d-{style}")
        assert clients.compute.disks.get("rg", f"d-{style}").provisioning_state == "Failed"
        estate.disk(f"d-{style}")
        assert clients.compute.disks.get("rg", f"d-{style}").provisioning_state == "Succeeded"


def test_az_answers_as_the_azure_cli(
    fake: Fake, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = login.write_az(fake, tmp_path)
    monkeypatch.setenv("PATH", login.path_with(folder))
    scope = "https://management.azure.com/.default"
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    token = DefaultAzureCredential(process_timeout=30).get_token(scope).token
    fake.tokens.check(f"Bearer {token}")
    (folder / "logged-out").touch()
    with pytest.raises(ClientAuthenticationError, match="az login"):
        AzureCliCredential(process_timeout=30).get_token(scope)


def test_the_log_holds_no_secret(fake: Fake, estate: Estate, clients: Clients) -> None:
    estate.network()
    estate.card()
    body = estate.vm_body()
    body["properties"]["osProfile"]["customData"] = "aHVzaCBodXNo"
    estate.put_vm("one", body)
    text = json.dumps(fake.journal.as_json())
    assert "virtualMachines/one" in text
    assert "customData" in text
    assert "aHVzaCBodXNo" not in text
    assert "aHVzaCBodXNo" not in json.dumps(
        clients.compute.virtual_machines.get("rg", "one").as_dict()
    )
