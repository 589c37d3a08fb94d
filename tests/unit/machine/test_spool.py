"""The bound of the upload spool: what does not fit is refused, and nothing stays promised."""

import asyncio
import errno
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import spool
from spool import Message, Promised, Receive, Scope, Send, Spool, use_own_folder

ROOM = 1000
PUT = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/file"


class Client:
    """One request: sends its pieces as they are asked for, and keeps what it is answered."""

    def __init__(self, *pieces: bytes, length: int | None = None, path: str = PUT) -> None:
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.scope: Scope = {"type": "http", "method": "PUT", "path": path, "headers": headers}
        self.pieces = list(pieces)
        self.hangs_up = False
        self.answers: list[Message] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def receive(self) -> Message:
        await self.go_on.wait()
        if not self.pieces:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        more = self.hangs_up or bool(self.pieces)
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: Message) -> None:
        self.answers.append(message)

    @property
    def status(self) -> int:
        return int(self.answers[0]["status"])


class Disk:
    """A disk with some room, and an MLflow that writes bodies to it and answers 200."""

    def __init__(self, folder: Path, fault: BaseException | None = None) -> None:
        self.free = ROOM
        self.fault = fault
        self.promised = Promised()
        self.spool = Spool(self.app, self.promised, folder)
        self.spool.room = lambda: self.free  # type: ignore[method-assign]

    async def app(self, _scope: Scope, receive: Receive, send: Send) -> None:
        written, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                written += len(message["body"])
                self.free -= len(message["body"])
                more = message["more_body"]
            if self.fault:
                raise self.fault
        finally:
            self.free += written
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serve(self, client: Client) -> int:
        await self.spool(client.scope, client.receive, client.send)
        return client.status


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def serve(disk: Disk, client: Client) -> int:
    return asyncio.run(disk.serve(client))


def test_what_fits_passes_and_nothing_stays_promised(disk: Disk) -> None:
    assert serve(disk, Client(b"x" * 600, b"x" * 400, length=1000)) == 200
    assert disk.promised.total() == 0


def test_what_does_not_fit_gets_507_with_a_reason(disk: Disk) -> None:
    client = Client(b"x" * 600, b"x" * 401, length=1001)
    assert serve(disk, client) == 507
    assert client.pieces == [], "its body is read to the end, or it would not see the answer"
    assert b"spool is full" in client.answers[1]["body"]
    assert disk.promised.total() == 0


def test_who_asks_first_is_spared_the_sending(disk: Disk) -> None:
    client = Client(b"x" * 1001, length=1001)
    client.scope["headers"].append((b"expect", b"100-continue"))
    assert serve(disk, client) == 507
    assert len(client.pieces) == 1


def test_a_body_of_unknown_length_is_counted_as_it_comes(disk: Disk) -> None:
    assert serve(disk, Client(b"x" * 600, b"x" * 400)) == 200
    client = Client(b"x" * 600, b"x" * 400, b"x", b"x" * 5000)
    assert serve(disk, client) == 507
    assert client.pieces == []
    assert disk.promised.total() == 0
    assert disk.free == ROOM, "what was written before is removed"


def test_everything_else_passes_by(disk: Disk) -> None:
    disk.free = 0
    for path in ("/api/2.0/mlflow/runs/log-batch", "/health"):
        assert serve(disk, Client(b"x", length=1, path=path)) == 200
    reading = Client(b"")
    reading.scope["method"] = "GET"
    assert serve(disk, reading) == 200
    assert serve(disk, Client(b"x", length=1)) == 507, "the control: uploads do not"


def test_uploads_at_the_same_time_share_the_room(disk: Disk) -> None:
    async def both() -> None:
        first = Client(b"x" * 400, b"x" * 300, length=700)
        first.go_on.clear()
        under_way = asyncio.create_task(disk.serve(first))
        await asyncio.sleep(0)
        assert disk.promised.total() == 700
        assert await disk.serve(Client(b"x" * 301, length=301)) == 507
        assert await disk.serve(Client(b"x" * 300, length=300)) == 200
        first.go_on.set()
        assert await under_way == 200
        assert await disk.serve(Client(b"x" * 700, length=700)) == 200

    asyncio.run(both())
    assert disk.promised.total() == 0


@pytest.mark.parametrize("fault", [ConnectionError(), ValueError("from Blob")])
def test_a_failed_upload_gives_its_room_back(tmp_path: Path, fault: Exception) -> None:
    disk = Disk(tmp_path, fault)
    with pytest.raises(type(fault)):
        serve(disk, Client(b"x" * 900, length=900))
    assert disk.promised.total() == 0


def test_a_client_that_hangs_up_gives_its_room_back(disk: Disk) -> None:
    client = Client(b"x" * 100, length=900)
    client.hangs_up = True
    with pytest.raises(ConnectionError):
        serve(disk, client)
    assert disk.promised.total() == 0


def test_a_cancelled_upload_gives_its_room_back(disk: Disk) -> None:
    async def cancel() -> None:
        client = Client(b"x", length=900)
        client.go_on.clear()
        under_way = asyncio.create_task(disk.serve(client))
        await asyncio.sleep(0)
        assert disk.promised.total() == 900
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way

    asyncio.run(cancel())
    assert disk.promised.total() == 0


@pytest.mark.parametrize("grouped", [False, True])
def test_a_disk_that_others_filled_is_a_507_as_well(tmp_path: Path, grouped: bool) -> None:
    fault: Exception = OSError(errno.ENOSPC, "No space left on device")
    disk = Disk(tmp_path, ExceptionGroup("tasks", [fault]) if grouped else fault)
    assert serve(disk, Client(b"x" * 900, length=900)) == 507
    assert disk.promised.total() == 0


def forked(body: Callable[[], Any]) -> int:
    process = os.fork()
    if process == 0:
        try:
            body()
        finally:
            os._exit(1)
    return process


def test_workers_share_the_room_and_a_killed_one_s_part_is_free_again(disk: Disk) -> None:
    def hold() -> None:
        disk.promised.take(800, lambda: ROOM)
        signal.pause()

    worker = forked(hold)
    try:
        deadline = time.monotonic() + 10
        while disk.promised.total() != 800 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert serve(disk, Client(b"x" * 201, length=201)) == 507
        assert serve(disk, Client(b"x" * 200, length=200)) == 200
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    assert serve(disk, Client(b"x" * 1000, length=1000)) == 200


def test_many_workers_never_promise_more_than_there_is(disk: Disk) -> None:
    def take_many() -> None:
        for _ in range(200):
            if disk.promised.take(300, lambda: ROOM):
                disk.promised.give_back(300)
        while not disk.promised.take(300, lambda: ROOM):
            time.sleep(0.001)
        signal.pause()

    workers = [forked(take_many) for _ in range(6)]
    try:
        deadline = time.monotonic() + 20
        while disk.promised.total() != 900 and time.monotonic() < deadline:
            assert disk.promised.total() <= ROOM
        assert disk.promised.total() == 900, "three fit"
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def test_the_room_is_what_is_free_but_for_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = Spool(Disk(tmp_path).app, Promised(), tmp_path)
    usage = type("Usage", (), {"free": spool.RESERVE + 5})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert bounded.room() == 5


def test_each_worker_has_a_folder_and_clears_those_of_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", tempfile.gettempdir)
    process = forked(lambda: None)
    os.waitpid(process, 0)
    for name in (str(process), "1", str(os.getpid()), "tmpabc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").touch()

    async def lifespan() -> None:
        await disk.spool({"type": "lifespan"}, Client(b"").receive, Client().send)

    asyncio.run(lifespan())
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    # Process 1 lives.
    assert left == {"1", "1/left", str(os.getpid())}
    assert Path(tempfile.mkdtemp()).parent == tmp_path / str(os.getpid())


PAGE = "/get-artifact"


@pytest.mark.parametrize(("method", "path"), [("GET", PUT), ("PUT", PUT), ("GET", PAGE)])
@pytest.mark.parametrize("hangs_up", [False, True])
def test_what_a_request_leaves_in_the_spool_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, hangs_up: bool
) -> None:
    seen: list[Path] = []
    still_open: list[IO[bytes]] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        # In a thread, as MLflow does; and nobody removes it.
        left = Path(await asyncio.to_thread(tempfile.mkdtemp))
        (left / "copy").write_bytes(b"x")
        still_open.append((left / "copy").open("rb"))
        assert left.is_relative_to(tmp_path / str(os.getpid()))
        seen.append(left)
        if hangs_up:
            raise ConnectionError
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run() -> None:
        monkeypatch.setattr(tempfile, "gettempdir", tempfile.gettempdir)
        monkeypatch.setattr(tempfile, "tempdir", None)
        use_own_folder(tmp_path)
        client = Client(b"", length=0, path=path)
        client.scope["method"] = method
        bounded = Spool(app, Promised(), tmp_path)
        # Beside it, what belongs to no request stays.
        kept = Path(tempfile.mkdtemp())
        if hangs_up:
            with pytest.raises(ConnectionError):
                await bounded(client.scope, client.receive, client.send)
        else:
            await bounded(client.scope, client.receive, client.send)
        assert not seen[0].exists()
        with still_open[0] as file:
            assert file.read() == b"", "its blocks are free"
        assert kept.exists()

    asyncio.run(run())


def test_the_next_request_of_a_connection_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Path] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        used.append(Path(tempfile.mkdtemp()))
        if len(used) < 3:
            # As a server does: from within the answer of this one.
            following.append(asyncio.create_task(request("GET" if len(used) == 1 else "POST")))

    async def request(method: str) -> None:
        client = Client(b"", length=0)
        client.scope["method"] = method
        await bounded(client.scope, client.receive, client.send)

    async def run() -> None:
        monkeypatch.setattr(tempfile, "gettempdir", tempfile.gettempdir)
        monkeypatch.setattr(tempfile, "tempdir", None)
        use_own_folder(tmp_path)
        await request("PUT")
        while following:
            await following.pop()

    following: list[asyncio.Task[None]] = []
    bounded = Spool(app, Promised(), tmp_path)
    asyncio.run(run())
    assert len(used) == 3
    assert len({path.parent for path in used}) == 3
    assert used[2].exists(), "what is no artifact lies beside them"
