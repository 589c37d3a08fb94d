"""How MLflow is started and asked for its health, with stand-ins for MLflow and uvicorn."""

import gc
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import entry
import health
import pytest

COMMAND = ["python3", "-m", "uvicorn", "--host", "0.0.0.0", "app"]


class Engine:
    """Notes whether it was closed."""

    disposed = False

    def dispose(self) -> None:
        self.disposed = True


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Put empty modules where MLflow and uvicorn would be."""
    names = ["mlflow.server.handlers", *(f"uvicorn.{n}" for n in ("_subprocess", "config", "main"))]
    names += [f"mlflow.store.{part}.sqlalchemy_store" for part in ("tracking", "model_registry")]
    made: dict[str, ModuleType] = {}
    for name in sorted({".".join(n.split(".")[:i]) for n in names for i in range(1, 5)}):
        made[name] = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made[name])
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, made[name])
    made["uvicorn.config"].__dict__["Config"] = type("Config", (), {"bind_socket": listening})
    return made


def listening(_config: object) -> socket.socket:
    """Listen as uvicorn does for its workers: with a socket that does not name its protocol."""
    made = socket.socket(socket.AF_INET)
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


def sends_at_once(server: socket.socket) -> bool:
    """Return whether what the server accepts sends small pieces without waiting."""
    with server, socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        assert accepted.proto == 0, "asyncio does not know it as TCP"
        return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_answers_are_not_kept_back(modules: dict[str, ModuleType]) -> None:
    config = modules["uvicorn.config"].__dict__["Config"]
    assert not sends_at_once(config().bind_socket())
    entry.answer_at_once()
    assert sends_at_once(config().bind_socket())


def test_workers_are_forked_without_a_shared_connection(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [Engine(), Engine()]
    for engine, part in zip(engines, ("tracking", "model_registry"), strict=True):
        store = SimpleNamespace(_engine_map={"uri": engine})
        modules[f"mlflow.store.{part}.sqlalchemy_store"].__dict__["SqlAlchemyStore"] = store
    handlers = modules["mlflow.server.handlers"].__dict__
    handlers.update(_tracking_store="open", _model_registry_store="open")
    seen: list[tuple[list[str], bool, str]] = []

    def run(args: list[str], prog_name: str) -> None:
        seen.append((args, all(engine.disposed for engine in engines), os.environ["SETTING"]))

    modules["uvicorn.main"].__dict__["main"] = run
    monkeypatch.delenv("SETTING", raising=False)
    with pytest.raises(SystemExit):
        entry.serve(COMMAND, extra_env={"SETTING": "x"}, capture_output=False)
    os.environ.pop("SETTING")
    gc.unfreeze()
    assert seen == [(["--host", "0.0.0.0", "app"], True, "x")]
    assert handlers["_tracking_store"] is handlers["_model_registry_store"] is None
    spawn = modules["uvicorn._subprocess"].__dict__["spawn"]
    assert spawn is multiprocessing.get_context("fork")


def test_the_server_waits_for_the_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "done"
    monkeypatch.setattr(entry, "MARK", mark)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            mark.touch()

    monkeypatch.setattr("time.sleep", nap)
    entry.wait_for_migration()
    assert len(naps) == 3


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(("status", "well"), [(b"200 OK", True), (b"503 Service", False)])
def test_health_is_the_answer_of_the_api(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, status: bytes, well: bool
) -> None:
    requests: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")

    connect, address = socket.create_connection, listener.getsockname()
    monkeypatch.setattr(socket, "create_connection", lambda _, timeout: connect(address, timeout))
    thread = threading.Thread(target=answer)
    thread.start()
    assert health.healthy() is well
    thread.join()
    assert b"experiments/search" in requests[0]
    assert b"Host: mlflow:5000\r\n" in requests[0]


def test_nobody_listening_is_not_healthy(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, address = socket.create_connection, listener.getsockname()
    listener.close()
    monkeypatch.setattr(socket, "create_connection", lambda _, timeout: connect(address, timeout))
    assert health.healthy() is False


def test_mlflow_gets_a_key_or_an_identity_and_never_both() -> None:
    given = "AccountName=a;AccountKey=k==;BlobEndpoint=http://b"
    assert entry.storage_variables(given) == {"AZURE_STORAGE_CONNECTION_STRING": given}
    identity = "ClientId=c1;BlobEndpoint=https://a.blob.core.windows.net"
    assert entry.storage_variables(identity) == {"AZURE_CLIENT_ID": "c1"}
