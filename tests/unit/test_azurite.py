"""Azurite as a process of ours: started once, with a key nobody sees, on a port that is free."""

import base64
import os
import secrets
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bakery import azurite, ssh
from bakery.azurite import Azurite
from bakery.errors import BakeryError, InputError

# Answers like a server that knows its accounts, written down where the test can look.
_NODE = """\
#!/usr/bin/env python3
import http.server, os, sys
words = sys.argv[1:]
host, port = words[words.index("--blobHost") + 1], int(words[words.index("--blobPort") + 1])
if os.path.exists(words[0]) and open(words[0]).read() == "broken":
    sys.exit("it is broken")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(403)
        self.end_headers()
http.server.HTTPServer((host, port), Answer).serve_forever()
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / "node"
    path.parent.mkdir()
    path.write_text(_NODE)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Azurite]]:
    """Make services on an address of this test's own; all are ended."""
    address = f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}.9"
    made: list[Azurite] = []

    def one(key: str = "a2V5") -> Azurite:
        made.append(Azurite(tmp_path / "azurite", address, "account1", key))
        return made[-1]

    yield one
    for service in made:
        service.stop()


def process_of(service: Azurite) -> int:
    return int((service.folder / "azurite.pid").read_text().split()[0])


def test_one_that_was_just_launched_by_a_killed_run_is_known(
    node: Path, make: Callable[..., Azurite]
) -> None:
    service = make()
    service.folder.mkdir()

    class Dying(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **given: Any) -> None:
            super().__init__(*words, **given)
            os.kill(os.getpid(), signal.SIGKILL)

    run = os.fork()
    if run == 0:
        subprocess.Popen = Dying  # type: ignore[assignment, misc]
        service._launch(Path("/main.js"))
    assert os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]) == -signal.SIGKILL
    # The child has written itself down before it became Azurite.
    assert service.running()
    service.stop()
    assert not service.running()


def test_it_starts_once_and_ends(node: Path, make: Callable[..., Azurite]) -> None:
    service = make()
    assert not service.running()
    service.start(Path("/main.js"))
    first = process_of(service)
    make().start(Path("/main.js"))
    assert process_of(service) == first
    assert (service.folder / "data").is_dir(), "blobs lie with the deployment"
    service.stop()
    assert not service.running()
    assert ssh.wait(lambda: not Path(f"/proc/{first}/exe").exists(), seconds=5)
    service.stop()


def test_the_key_is_in_no_argv(node: Path, make: Callable[..., Azurite]) -> None:
    service = make("c2VjcmV0")
    service.start(Path("/main.js"))
    process = Path(f"/proc/{process_of(service)}")
    assert b"c2VjcmV0" not in (process / "cmdline").read_bytes()
    assert b"AZURITE_ACCOUNTS=account1:c2VjcmV0" in (process / "environ").read_bytes()
    assert stat.S_IMODE((process / "environ").stat().st_mode) == 0o400


def test_a_new_key_starts_it_anew(node: Path, make: Callable[..., Azurite]) -> None:
    make("b2xk").start(Path("/main.js"))
    before = process_of(make())
    make("bmV3").start(Path("/main.js"))
    assert process_of(make()) != before
    assert not Path(f"/proc/{before}/exe").exists()


def test_a_busy_port_is_refused_and_its_owner_left_alone(
    node: Path, make: Callable[..., Azurite]
) -> None:
    service = make()
    with socket.create_server((service.address, azurite.PORT)) as planted:
        with pytest.raises(InputError, match=f"{service.address}:10000 is busy") as refused:
            service.start(Path("/main.js"))
        assert "ss -ltnp" in refused.value.hint
        assert planted.fileno() > 0
    assert not service.folder.exists()
    service.start(Path("/main.js"))


def test_one_that_ends_at_once_is_told_with_what_it_said(
    node: Path, make: Callable[..., Azurite], tmp_path: Path
) -> None:
    (tmp_path / "main.js").write_text("broken")
    with pytest.raises(BakeryError, match="did not answer") as failed:
        make().start(tmp_path / "main.js")
    assert failed.value.tail == "it is broken"
    assert failed.value.log == make().log


def test_without_node_the_command_that_installs_it_is_told(
    make: Callable[..., Azurite], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azurite, "need", lambda tool, **_: (_ for _ in ()).throw(InputError(tool)))
    with pytest.raises(InputError, match="node"):
        make().start(Path("/main.js"))
    assert not make().folder.exists()


def test_a_process_that_took_the_number_is_not_ours(make: Callable[..., Azurite]) -> None:
    service = make()
    service.folder.mkdir()
    (service.folder / "azurite.pid").write_text(f"{os.getpid()} 1")
    assert not service.running()
    service.stop()
    os.kill(os.getpid(), 0)


def test_one_that_ignores_the_signal_is_killed(
    node: Path, make: Callable[..., Azurite], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _NODE.replace(
        "words = ", "import signal; signal.signal(15, signal.SIG_IGN)\nwords = ", 1
    )
    node.write_text(text)
    service = make()
    service.start(Path("/main.js"))
    process = process_of(service)
    patience = ssh.wait
    monkeypatch.setattr(ssh, "wait", lambda ready, **_: patience(ready, seconds=0.2, pause=0.05))
    service.stop()
    monkeypatch.undo()
    assert ssh.wait(lambda: not Path(f"/proc/{process}/exe").exists(), seconds=5)


def test_a_container_that_cannot_be_made_is_told(make: Callable[..., Azurite]) -> None:
    with pytest.raises(BakeryError, match="made no container runs") as failed:
        make().make_container("runs")
    assert "\n" not in str(failed.value)


def test_generated_keys_are_as_azure_makes_them() -> None:
    one, other = azurite.generate_key(), azurite.generate_key()
    assert one != other
    assert len(base64.b64decode(one, validate=True)) == 64
