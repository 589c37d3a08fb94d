"""Which Docker trains, and in one line why it cannot."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery.errors import InputError
from bakery.train import engine, image, place
from bakery.train.engine import Engine
from tests.unit.samples import ALL_SYMBOLS
from tests.unit.test_checks_reports import server

INFO = '{"ServerVersion": "26.1", "Runtimes": {"runc": {}, "nvidia": {}}}'
Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a program in front of the host's own; what it is called with is kept beside it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def put(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "$DOCKER_HOST $*" >>"$0.calls"\n{script}\n')
        path.chmod(0o755)

    return put


def test_an_address_is_taken_apart() -> None:
    assert engine.parse_ssh("ssh://me@gpu.example.org:2222") == ("me", "gpu.example.org", "2222")
    assert engine.parse_ssh("ssh://gpu/") == ("", "gpu", "")


def test_the_engine_of_this_host(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = "case $1 in context) echo unix:///run/other.sock ;;"
    program("docker", f"{context} info) echo '{INFO}' ;; esac")
    with engine.opened("docker") as found:
        found.check_gpus()
        assert found.host == "unix:///run/other.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with engine.opened("docker") as found:
        assert found.host == "tcp://127.0.0.1:1"
    assert "tcp://127.0.0.1:1 info" in (tmp_path / "docker.calls").read_text()


def test_gpus_need_their_runtime(program: Program) -> None:
    program("docker", """echo '{"ServerVersion": "26.1", "Runtimes": {"runc": {}}}'""")
    with engine.opened("docker") as found, pytest.raises(InputError, match="no NVIDIA runtime"):
        found.check_gpus()


@pytest.mark.parametrize(
    "script",
    ["""echo '{"ServerErrors": ["Cannot connect"]}'; exit 1""", "echo Cannot connect >&2; exit 1"],
)
def test_a_silent_docker_is_told(program: Program, script: str) -> None:
    program("docker", script)
    with (
        pytest.raises(InputError, match="does not answer: Cannot connect"),
        engine.opened("docker"),
    ):
        pass


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            "No ED25519 host key is known for gpu and ...\nHost key verification failed.",
            "the host key of gpu is not known",
            "ssh-keyscan -p 22 gpu >>~/.ssh/known_hosts",
        ),
        (
            "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nHost key verification failed.",
            "another than the known one",
            "ssh-keygen -R 'gpu'",
        ),
        ("me@gpu: Permission denied (publickey).", "no login at ssh://me@gpu:22", "ssh-copy-id"),
        (
            "ssh: Could not resolve hostname gpu: Name or service not known",
            "cannot be reached: ssh: Could not resolve hostname gpu",
            "",
        ),
    ],
)
def test_a_host_that_lets_nobody_in_is_told(
    program: Program, tmp_path: Path, said: str, message: str, hint: str
) -> None:
    program("docker", "exit 1")
    program("ssh", f"cat >&2 <<'END'\n{said}\nEND\nexit 255")
    with pytest.raises(InputError) as refusal, engine.opened("ssh://me@gpu:22"):
        pass
    assert message in str(refusal.value)
    assert hint in refusal.value.hint
    calls = (tmp_path / "ssh.calls").read_text()
    assert "StrictHostKeyChecking=yes" in calls
    assert "BatchMode=yes" in calls
    assert not (tmp_path / "docker.calls").exists()


def test_a_host_over_ssh_is_asked_through_the_connection(program: Program, tmp_path: Path) -> None:
    program("ssh", "echo ready; exec cat")
    program("docker", f"echo '{INFO}'")
    with engine.opened("ssh://me@gpu") as found:
        assert found.host.startswith("unix:///")
        assert found.where == "ssh://me@gpu"
    assert f"{found.host} info" in (tmp_path / "docker.calls").read_text()
    assert not Path(found.host.removeprefix("unix://")).parent.exists()


def test_docker_host_may_be_over_ssh_too(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program("ssh", "echo ready; exec cat")
    program("docker", f"echo '{INFO}'")
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@gpu")
    with engine.opened("docker") as found:
        assert found.where == "ssh://me@gpu"


def test_the_image_keeps_what_it_starts() -> None:
    text = image.dockerfile("a/b:1", {"A": 'say "x" $y'}, ["tini", "--"])
    assert text.startswith("FROM a/b:1\n")
    assert 'ENTRYPOINT ["/bin/sh", "/mlflow-bakery/enter", "tini", "--"]' in text
    assert "password" not in text.lower()


def test_our_own_images_come_from_the_cache(program: Program, tmp_path: Path) -> None:
    entry = tmp_path / "containers" / "mlflow-1"
    entry.mkdir(parents=True)
    (entry / "image.tar").touch()
    (entry / "image.json").write_text('{"reference": "mlflow-bakery/mlflow:1"}')
    assert image.archive_of(tmp_path, "mlflow-bakery/mlflow:1") == entry / "image.tar"
    assert image.archive_of(tmp_path, "mlflow-bakery/mlflow:2") is None
    program(
        "docker", "case $1 in pull) exit 1 ;; image) test -e $0.loaded ;; load) : >$0.loaded; esac"
    )
    here = Engine("this host", "unix:///x", {})
    with pytest.raises(InputError, match="does not have other and cannot pull it"):
        image.make(here, "other", {}, None, cache=tmp_path)
    image.make(here, "mlflow-bakery/mlflow:1", {}, None, cache=tmp_path)
    calls = (tmp_path / "docker.calls").read_text()
    assert f"load --quiet --input {entry / 'image.tar'}" in calls
    assert "unix:///x build --quiet" in calls


def test_a_container_is_told_the_address_and_no_secret(tmp_path: Path) -> None:
    given = server(tmp_path)
    found = place.docker_args("name", given, "all")
    assert found["gpus"] == "all"
    assert found["add-host"] == "mlflow.check.test:127.0.0.1"
    assert "gpus" not in place.docker_args("name", given, "")
    assert given.password.get_secret_value() not in str(found)


@pytest.mark.parametrize("password", [ALL_SYMBOLS, " äß€漢 both ends ", "\\n $(id) `id` %s"])
def test_the_start_of_a_container_reads_the_login_as_it_is(password: str) -> None:
    enter = Path(image.__file__).with_name("enter.sh")
    script = 'printf %s "$MLFLOW_TRACKING_USERNAME:$MLFLOW_TRACKING_PASSWORD:$1"; cat'
    done = subprocess.run(
        ["sh", enter, "sh", "-c", script, "sh", "an argument"],
        input=f"a user\n{password}\nthe rest of standard input",
        check=True, text=True, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stdout == f"a user:{password}:an argument"
