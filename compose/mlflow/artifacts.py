"""Artifacts on their way between clients and the store: always through this server, and in time.

A store that does not answer is told within seconds, and as what it is. By itself the store's
client tries again for a minute and a half, and MLflow then answers 500 without a word. Clients
repeat a 503 as well, but in the end they say why.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

BUSY = 503
TEXT = "the artifact store does not answer; runs, parameters and metrics go on"
_PIECES = 4
"""How much of an answer waits for its client; a piece of an artifact is 1 MiB."""


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


def hand_out_as_taken() -> None:
    """Read a copy from the spool as fast as the client takes it, and give it up with the answer.

    Starlette's bridge from the old routes puts a whole file into memory before a slow client, and
    closes no answer: the copy's blocks stay taken until Python happens to look for garbage.
    """
    import anyio
    from mlflow.server import app as flask
    from mlflow.server import fastapi_app

    bridge = fastapi_app._EfficientWSGIResponder
    made = bridge.__init__

    def make(responder: Any, *given: Any) -> None:
        made(responder, *given)
        streams = anyio.create_memory_object_stream[Any](_PIECES)
        responder.stream_send, responder.stream_receive = streams

    bridge.__init__ = make
    flask.wsgi_app = _closing(flask.wsgi_app)


def _closing(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterator[bytes]]:
    """Close what a WSGI application answers with, as PEP 3333 asks, however its reading ends."""

    def answer(*given: Any) -> Iterator[bytes]:
        pieces = application(*given)
        try:
            yield from pieces
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    return answer


class _Nothing:
    """What no artifact store is."""
