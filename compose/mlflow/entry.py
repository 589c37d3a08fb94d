"""Starts MLflow: `mlflow server`, but its workers are forked from a process that has it imported.

By itself it imports everything three times, in the command and in each of two workers, which is
most of the time that a start takes and most of the memory. Here the imports are made once, while
MySQL starts and the schema is migrated, and shared.
"""

import gc
import importlib
import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import artifacts
from spool import Promised, Spool

MARK = Path("/run/migration/done")
STORAGE = Path("/run/secrets/storage")
SPOOL = Path("/spool")


def wait_for_migration() -> None:
    """Wait until the schema is as this MLflow wants it; the server itself must never migrate."""
    print("waiting for the migration", flush=True)
    while not MARK.exists():
        time.sleep(0.02)


def import_server() -> None:
    """Import what a worker imports, with the settings that are looked at while importing."""
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    for name in ("mlflow.cli", "mlflow.server.fastapi_app", "pymysql", "uvicorn.main"):
        importlib.import_module(name)


def forget_connections() -> None:
    """Close what the command opened: two workers must not talk on one connection."""
    from mlflow.server import handlers
    from mlflow.store.model_registry import sqlalchemy_store as registry
    from mlflow.store.tracking import sqlalchemy_store as tracking

    for store in (tracking.SqlAlchemyStore, registry.SqlAlchemyStore):
        for engine in store._engine_map.values():
            engine.dispose()
        store._engine_map.clear()
    handlers._tracking_store = handlers._model_registry_store = None


def answer_at_once() -> None:
    """Send each answer as it is written.

    uvicorn sends head and body apart, and the kernel would keep the body back until the client's
    delayed acknowledgement: 40 ms for each request. asyncio turns that off, but not for sockets
    such as uvicorn makes for its workers, which do not name their protocol.
    """
    import uvicorn.config

    bind = uvicorn.config.Config.bind_socket

    def bound(config: Any) -> socket.socket:
        listening: socket.socket = bind(config)
        # What is accepted from it inherits this.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    uvicorn.config.Config.bind_socket = bound


def serve(command: Sequence[str], *, extra_env: dict[str, str], **_: Any) -> NoReturn:
    """Run uvicorn here instead of in a new process, which is what `mlflow server` asks for."""
    import uvicorn._subprocess
    import uvicorn.main

    os.environ.update(extra_env)
    forget_connections()
    answer_at_once()
    # Objects that are never looked at again by the collector stay in shared pages.
    gc.collect()
    gc.freeze()
    uvicorn._subprocess.spawn = multiprocessing.get_context("fork")
    first = command.index("uvicorn") + 1
    uvicorn.main.main(args=list(command[first:]), prog_name="uvicorn")
    sys.exit(0)


def bound_uploads() -> None:
    """Keep uploads from filling the disk, whichever worker they come to."""
    from mlflow.server.fastapi_app import app

    # What an earlier run of this container left.
    for left in SPOOL.iterdir():
        shutil.rmtree(left, ignore_errors=True)
    app.add_middleware(Spool, promised=Promised(), folder=SPOOL)


def storage_variables(access: str) -> dict[str, str]:
    """Return what MLflow looks for: a connection string, or whose identity to ask for.

    Only one of them: MLflow takes even an empty connection string for one.
    """
    if access.startswith("ClientId="):
        return {"AZURE_CLIENT_ID": access.split(";", maxsplit=1)[0].partition("=")[2]}
    return {"AZURE_STORAGE_CONNECTION_STRING": access}


def main() -> None:
    """Become the server."""
    import_server()
    bound_uploads()
    artifacts.give_up_soon()
    artifacts.say_so()
    artifacts.pass_all_through_here()
    artifacts.hand_out_as_taken()
    import mlflow.cli
    import mlflow.server

    wait_for_migration()
    # In the environment of this process only: not of the container, which `docker inspect` shows.
    os.environ.update(storage_variables(STORAGE.read_text(encoding="utf-8")))
    mlflow.server._exec_cmd = serve
    mlflow.cli.cli(args=["server"], prog_name="mlflow")


if __name__ == "__main__":
    main()
