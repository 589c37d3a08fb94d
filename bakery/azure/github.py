"""Signing in from a workflow of GitHub: its own token in the place of a secret.

A new one is asked for whenever Azure wants to see one, so that a job may take longer than a token
is good for; the login that `az` makes of one ends after an hour.
"""

import os

import requests

from bakery.settings import Settings

ASKED_WITH = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL")
"""What a job has that may ask for tokens (`permissions: id-token: write`)."""
_AUDIENCE = "api://AzureADTokenExchange"


def principal(settings: Settings) -> dict[str, str]:
    """Return `client_id` and `tenant_id` of the application to sign in as; empty where unset."""
    tenant = settings.azure_tenant or os.environ.get("AZURE_TENANT_ID", "")
    return {"client_id": os.environ.get("AZURE_CLIENT_ID", ""), "tenant_id": tenant}


def signs_in(settings: Settings) -> bool:
    """Return whether this is a job that may ask for tokens, and knows whom to sign in as.

    A principal's secret comes before, and so does a choice by AZURE_TOKEN_CREDENTIALS.
    """
    if os.environ.get("AZURE_CLIENT_SECRET") or os.environ.get("AZURE_TOKEN_CREDENTIALS"):
        return False
    return all([*principal(settings).values(), *map(os.environ.get, ASKED_WITH)])


def token() -> str:
    """Return a new token of the job, for Azure to trade for one of its own.

    Raises:
        ClientAuthenticationError: GitHub gives none.
    """
    from azure.core.exceptions import ClientAuthenticationError

    word, url = (os.environ[name] for name in ASKED_WITH)
    try:
        answer = requests.get(
            url,
            params={"audience": _AUDIENCE},
            headers={"Authorization": f"bearer {word}", "Accept": "application/json"},
            timeout=20,
        )
        answer.raise_for_status()
        return str(answer.json()["value"])
    except (requests.RequestException, ValueError, KeyError) as failed:
        raise ClientAuthenticationError(
            f"GitHub gives this job no token ({type(failed).__name__}); it needs"
            " permissions: id-token: write"
        ) from failed
