"""Artifacts on their way between clients and the store: always through this server, and in time.

A store that does not answer is told within seconds, and as what it is. By itself the store's
client tries again for a minute and a half, and MLflow then answers 500 without a word. Clients
repeat a 503 as well, but in the end they say why.
"""

import json
from typing import Any

BUSY = 503
TEXT = "the artifact store does not answer; runs, parameters and metrics go on"


def body() -> str:
    """Return the answer, in the form of MLflow's own errors."""
    return json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": TEXT})


def give_up_soon() -> None:
    """Let the store's client try four times in about a quarter of a minute."""
    from azure.storage.blob import BlobServiceClient, ExponentialRetry

    made = BlobServiceClient.__init__

    def make(client: BlobServiceClient, *given: Any, **options: Any) -> None:
        retry = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3)
        made(client, *given, **{"retry_policy": retry, **options})

    BlobServiceClient.__init__ = make  # type: ignore[method-assign,assignment]


def say_so() -> None:
    """Answer 503, on MLflow's new routes and on its old ones."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from fastapi import Response
    from mlflow.server import app as flask
    from mlflow.server.fastapi_app import app as fastapi

    def new(_request: Any, _error: Exception) -> Response:
        return Response(body(), BUSY, media_type="application/json")

    def old(_error: Exception) -> tuple[str, int, dict[str, str]]:
        return body(), BUSY, {"Content-Type": "application/json"}

    for error in (ServiceRequestError, ServiceResponseError):
        fastapi.add_exception_handler(error, new)
        flask.register_error_handler(error, old)


def pass_all_through_here() -> None:
    """Offer no client a way of its own to the store.

    MLflow would tell clients that files of 500 MB and more can go straight to Blob, by signed
    addresses. They need a way there, then, and what goes it is not bounded by the spool.
    """
    from mlflow.server import handlers

    handlers.MultipartUploadMixin = handlers.MultipartDownloadMixin = _Nothing


class _Nothing:
    """What no artifact store is."""
