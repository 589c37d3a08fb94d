"""Signing in: the token endpoint of the tenant, and a program `az` for the command line's login."""

import base64
import json
import os
import secrets
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.azure.refusal import Refusal
from tests.azure.routing import Call, Reply, route

if TYPE_CHECKING:
    from tests.azure.fake import Fake


class Tokens:
    """The access tokens that were given out."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def issue(self, tenant: str, seconds: float) -> tuple[str, float]:
        """Return a new token and when it ends, in seconds since 1970."""
        end = time.time() + seconds
        claims = {
            "aud": "https://management.azure.com",
            "exp": int(end),
            "tid": tenant,
            "oid": "me",
        }
        parts = [_part({"alg": "none", "typ": "JWT"}), _part(claims), secrets.token_urlsafe(16)]
        token = ".".join(parts)
        self._ends[token] = end
        return token, end

    def expire(self) -> None:
        """Let every token that was given out be too old."""
        self._ends = dict.fromkeys(self._ends, 0.0)

    def check(self, header: str) -> None:
        """Refuse a request without a token of ours.

        Raises:
            Refusal: 401.
        """
        challenge = {"WWW-Authenticate": 'Bearer authorization_uri="https://login.windows.net/"'}
        kind, _, token = header.partition(" ")
        if not header:
            raise Refusal(
                401, "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.", headers=challenge,
            )  # fmt: skip
        if kind.lower() != "bearer" or token not in self._ends:
            raise Refusal(
                401, "InvalidAuthenticationToken", "The access token is invalid.", headers=challenge
            )
        if self._ends[token] < time.time():
            raise Refusal(
                401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier"
                " than current UTC time.", headers=challenge
            )  # fmt: skip


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@route("GET", "/{tenant}/v2.0/.well-known/openid-configuration")
def _discover(fake: "Fake", call: Call) -> Reply:
    authority = f"{call.base}/{call.names['tenant']}"
    return Reply(
        200,
        {
            "issuer": f"{authority}/v2.0",
            "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
            "token_endpoint": f"{authority}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{authority}/oauth2/v2.0/devicecode",
        },
    )


@route("GET", "/common/discovery/instance")
def _instances(fake: "Fake", call: Call) -> Reply:
    discovery = f"{call.base}/{fake.tenant}/v2.0/.well-known/openid-configuration"
    return Reply(200, {"tenant_discovery_endpoint": discovery, "metadata": []})


@route("POST", "/{tenant}/oauth2/v2.0/token")
def _token(fake: "Fake", call: Call) -> Reply:
    if call.names["tenant"] not in {fake.tenant, "organizations"}:
        return _no("invalid_request", f"AADSTS90002: Tenant '{call.names['tenant']}' not found.")
    form = call.body if isinstance(call.body, dict) else {}
    if "client_assertion" in form:
        return _exchanged(fake, form)
    given = form.get("client_secret")
    if not given:
        return _no("invalid_request", "AADSTS7000216: 'client_assertion' or 'client_secret' is"
                   " required for the 'client_credentials' grant type.")  # fmt: skip
    if given == "wrong":
        return _no("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
    return _issued(fake)


def _issued(fake: "Fake") -> Reply:
    token, _ = fake.tokens.issue(fake.tenant, fake.options.token_seconds)
    seconds = fake.options.token_seconds
    answer = {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds}
    return Reply(200, {**answer, "access_token": token})


# -- a workflow's own token, traded for one of Azure's ---------------------------------------------

_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SUBJECT = "repo:owner/name:ref:refs/heads/main"
JOB = "a-job-of-github"
"""What a job shows to be given a token."""


def of_a_job(fake: "Fake") -> dict[str, str]:
    """Return the environment of a job that may ask for tokens."""
    return {
        "AZURE_CLIENT_ID": fake.tenant,
        "AZURE_TENANT_ID": fake.tenant,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": JOB,
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{fake.url}/_github/token?api-version=2.0",
        # For what is no call to Azure: here GitHub is behind the same certificate.
        "REQUESTS_CA_BUNDLE": str(fake.ca_file),
    }


def assertion(fake: "Fake", claims: dict[str, str] | None = None, seconds: float = 300) -> str:
    """Return a token as GitHub gives to a job; `seconds` is how long it is good for."""
    body = {
        "iss": "https://token.actions.githubusercontent.com", "sub": SUBJECT,
        "aud": "api://AzureADTokenExchange", "exp": time.time() + seconds, **(claims or {}),
    }  # fmt: skip
    made = ".".join([_part({"alg": "none"}), _part(body), secrets.token_urlsafe(16)])
    fake.assertions[made] = body
    return made


@route("GET", "/_github/token")
def _job_token(fake: "Fake", call: Call) -> Reply:
    if call.headers.get("authorization", "").lower() != f"bearer {JOB}":
        return Reply(401, {"message": "who are you?"})
    claims = {"aud": call.query.get("audience", "")}
    if "environment" in call.query:
        claims["sub"] = f"repo:owner/name:environment:{call.query['environment']}"
    return Reply(200, {"value": assertion(fake, claims), "count": 1})


def _exchanged(fake: "Fake", form: dict[str, str]) -> Reply:
    if form.get("client_assertion_type") != _BEARER or "client_id" not in form:
        return _no("invalid_request", "AADSTS900144: a parameter is missing.")
    claims = fake.assertions.get(form["client_assertion"])
    if claims is None:
        return _no("invalid_client", "AADSTS700027: the assertion's signature is wrong.", 401)
    if claims["exp"] < time.time():
        return _no("invalid_client", "AADSTS700024: Client assertion is not within its valid time"
                   " range.", 401)  # fmt: skip
    if claims["aud"] != "api://AzureADTokenExchange" or claims["sub"] != fake.trusted_subject:
        return _no("invalid_client", "AADSTS700213: No matching federated identity record found for"
                   f" presented assertion subject '{claims['sub']}'.", 401)  # fmt: skip
    return _issued(fake)


def _no(code: str, text: str, status: int = 400) -> Reply:
    return Reply(status, {"error": code, "error_description": text})


_AZ = '''#!{python}
"""Answers as the Azure CLI does after `az login` at the fake."""
import json, ssl, sys, urllib.request
from pathlib import Path
words = sys.argv[1:]
if (Path(__file__).parent / "logged-out").exists():
    sys.exit("ERROR: Please run 'az login' to setup account.")
if words[:2] == ["account", "get-access-token"]:
    context = ssl.create_default_context(cafile={ca!r})
    request = urllib.request.Request({url!r} + "/_fake/token", method="POST", data=b"{{}}")
    print(urllib.request.urlopen(request, context=context).read().decode())
elif words[:2] == ["account", "show"]:
    print(json.dumps({{"id": {subscription!r}, "tenantId": {tenant!r}, "name": "fake",
                      "state": "Enabled", "isDefault": True}}))
elif words[:1] in (["version"], ["--version"]):
    print(json.dumps({{"azure-cli": "2.80.0"}}))
else:
    sys.exit("ERROR: the fake az knows only account get-access-token, account show, version")
'''


def write_az(fake: "Fake", folder: Path) -> Path:
    """Write a program `az` into a folder, to be put first on PATH; return the folder.

    A file `logged-out` beside it makes it answer as before `az login`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "az"
    values = {"ca": str(fake.ca_file), "url": fake.url, "python": sys.executable}
    text = _AZ.format(**values, subscription=fake.subscription, tenant=fake.tenant)
    program.write_text(text, encoding="utf-8")
    program.chmod(stat.S_IRWXU)
    return folder


def path_with(folder: Path) -> str:
    """Return PATH with a folder first."""
    return f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
