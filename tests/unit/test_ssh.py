"""SSH: keys that stay, only the machine's own host key trusted, waiting."""

import socket
import time
from pathlib import Path

import pytest

from bakery import ssh
from bakery.errors import BakeryError, InputError
from bakery.run import run
from bakery.targets.base import SshAccess


def test_a_key_is_made_once_and_is_secret(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "id_ed25519"
    public = ssh.make_key(path)
    assert ssh.make_key(path) == public
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(["ssh-keygen", "-y", "-f", path]).stdout.split()[:2] == public.split()[:2]


def test_a_half_written_pair_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    first = ssh.make_key(path)
    path.unlink()
    second = ssh.make_key(path)
    assert second != first
    assert run(["ssh-keygen", "-y", "-f", path]).stdout.split()[1] == second.split()[1]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called ssh that writes down its words and its input."""
    path = tmp_path / "bin" / "ssh"
    path.parent.mkdir()
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\ncat >{tmp_path}/input\n'
        f"[ -e {tmp_path}/ok ]\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return path


@pytest.fixture
def access(tmp_path: Path) -> SshAccess:
    return SshAccess("127.0.0.1", "u", tmp_path / "key", tmp_path / "known hosts")


def test_words_arrive_as_they_are_and_input_is_not_among_them(
    program: Path, access: SshAccess, tmp_path: Path
) -> None:
    done = ssh.command(access, ["echo", "a b", "$HOME'"], stdin="pa55word")
    assert done.returncode == 1
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-3:] == ["u@127.0.0.1", "--", "echo 'a b' '$HOME'\"'\"''"]
    assert "StrictHostKeyChecking=yes" in words
    assert "BatchMode=yes" in words
    assert f'UserKnownHostsFile="{tmp_path}/known hosts"' in words
    assert (tmp_path / "input").read_text() == "pa55word"
    assert "pa55word" not in words


def test_one_logs_in_only_to_the_key_from_the_machine_s_disk(
    program: Path, access: SshAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ok").touch()
    assert not ssh.answers(access, lambda: "ssh-ed25519 AAAA"), "nothing listens on port 22 here"
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_access = SshAccess(
            access.host, access.user, access.key, access.known_hosts, server.getsockname()[1]
        )
        assert not ssh.answers(open_access, lambda: None), "no key yet: nothing is trusted"
        assert not (tmp_path / "words").exists()
        assert ssh.answers(open_access, lambda: "ssh-ed25519 AAAA root@mlflow")
        assert access.known_hosts.read_text() == "127.0.0.1 ssh-ed25519 AAAA\n"
        (tmp_path / "ok").unlink()
        assert not ssh.answers(open_access, lambda: "ssh-ed25519 AAAA")


def test_a_machine_too_slow_to_log_in_is_asked_again(
    program: Path, access: SshAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> None:
        raise BakeryError("ssh did not end within 15 s")

    def missing(*_: object, **__: object) -> None:
        raise InputError("ssh is not installed")

    monkeypatch.setattr(ssh, "_port_open", lambda _: True)
    monkeypatch.setattr(ssh, "run", late)
    assert not ssh.answers(access, lambda: "ssh-ed25519 AAAA")
    monkeypatch.setattr(ssh, "run", missing)
    with pytest.raises(InputError, match="not installed"):
        ssh.answers(access, lambda: "ssh-ed25519 AAAA")


def test_waiting_ends_with_the_truth_or_at_the_deadline() -> None:
    tries = iter([False, False, True])
    assert ssh.wait(lambda: next(tries), seconds=5, pause=0.01)
    started = time.monotonic()
    assert not ssh.wait(lambda: False, seconds=0.1, pause=0.02)
    assert time.monotonic() - started < 2
