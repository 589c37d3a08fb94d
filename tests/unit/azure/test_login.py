"""Signing in by a token of one's own that Azure trades, and what comes before what."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bakery.azure import github
from bakery.azure.clients import Clients
from bakery.azure.errors import explained
from bakery.azure.recipe import packer_login
from bakery.errors import InputError
from bakery.settings import load
from tests.azure import login
from tests.azure.place import Place, placed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch) as found:
        monkeypatch.delenv("AZURE_CLIENT_SECRET")
        yield found


@pytest.fixture
def job(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A job of GitHub that may ask for tokens."""
    for name, value in login.of_a_job(place.fake).items():
        monkeypatch.setenv(name, value)
    return place


def ask() -> Callable[[], object]:
    """Return what asks Azure something, with one login for each time."""
    clients = Clients(load(target="azure"))

    @explained("look at the groups")
    def groups() -> object:
        return list(clients.resources.resource_groups.list())

    return groups


def asked(place: Place) -> list[str]:
    """Return what was asked to sign in, in order."""
    known = {"/_github/token": "GitHub", f"/{place.fake.tenant}/oauth2/v2.0/token": "Azure"}
    return [known[one.path] for one in place.fake.journal.entries if one.path in known]


def test_a_job_of_github_signs_in_with_its_own_token(job: Place) -> None:
    ask()()
    assert asked(job) == ["GitHub", "Azure"]
    found = packer_login(load(target="azure"))
    assert found.auth == "oidc"
    assert found.variables["oidc_request_token"] == login.JOB


def test_it_asks_again_when_azures_token_has_ended(job: Place) -> None:
    job.fake.options.token_seconds = 1
    again = ask()
    again()
    for claims in job.fake.assertions.values():
        claims["exp"] = 0
    time.sleep(1.1)
    again()
    assert asked(job)[:2] == ["GitHub", "Azure"]
    assert asked(job).count("GitHub") >= 2


def test_a_token_for_somebody_else_is_explained(job: Place) -> None:
    job.fake.trusted_subject = "repo:owner/name:environment:production"
    with pytest.raises(InputError, match="does not trust the token of this workflow") as refused:
        ask()()
    assert "federated credential" in refused.value.hint
    assert login.SUBJECT in refused.value.tail


def test_a_job_without_the_right_to_ask_is_told_so(
    job: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another")
    with pytest.raises(InputError, match="not logged in") as refused:
        ask()()
    assert "id-token: write" in refused.value.tail


def test_what_comes_before_it(job: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(target="azure")
    assert github.signs_in(settings)
    for name, value in (
        ("AZURE_CLIENT_SECRET", "any"), ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", ""), ("AZURE_CLIENT_ID", ""),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not github.signs_in(settings), name
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "any")
    ask()()
    assert asked(job) == ["Azure"]


def test_a_workload_s_token_in_a_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(login.assertion(place.fake))
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", place.fake.url)
    ask()()
    assert asked(place) == ["Azure"]
    file.write_text(login.assertion(place.fake, seconds=-1))
    with pytest.raises(InputError, match="too old"):
        ask()()
