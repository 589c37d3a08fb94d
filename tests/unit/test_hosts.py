"""The line in /etc/hosts: ours only, once, and gone afterwards."""

from pathlib import Path

import pytest

from bakery import hosts
from bakery.errors import InputError

BEFORE = "127.0.0.1\tlocalhost\n# m.example.org is only told here\n10.0.0.1 other # note"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    path.write_text(BEFORE)
    monkeypatch.setattr(hosts, "_FILE", path)
    return path


def test_a_name_is_claimed_once_and_released(file: Path) -> None:
    inode = file.stat().st_ino
    hosts.claim("m.example.org", "10.88.0.2", "abc")
    hosts.claim("m.example.org", "10.88.0.2", "abc")
    assert file.read_text() == f"{BEFORE}\n10.88.0.2 m.example.org # mlflow-bakery abc\n"
    hosts.claim("n.example.org", "10.88.0.18", "abc")
    assert "m.example.org #" not in file.read_text()
    assert "10.88.0.18 n.example.org" in file.read_text()
    hosts.release("abc")
    hosts.release("abc")
    assert file.read_text() == f"{BEFORE}\n"
    assert file.stat().st_ino == inode, "a bind mount cannot be renamed over"


def test_two_deployments_have_a_line_each(file: Path) -> None:
    hosts.claim("m.example.org", "10.88.0.2", "abc")
    hosts.claim("n.example.org", "10.88.0.18", "bc")
    hosts.release("bc")
    assert "m.example.org # mlflow-bakery abc" in file.read_text()
    assert "n.example.org" not in file.read_text()


@pytest.mark.parametrize("line", ["10.9.9.9 x m.example.org", "::1 m.example.org # mine"])
def test_a_name_of_the_user_s_is_refused_and_kept(file: Path, line: str) -> None:
    file.write_text(f"{BEFORE}\n{line}\n")
    with pytest.raises(InputError, match="has another line") as refused:
        hosts.claim("m.example.org", "10.88.0.2", "abc")
    assert line in str(refused.value)
    assert "--name" in refused.value.hint
    assert file.read_text() == f"{BEFORE}\n{line}\n"
    hosts.claim("example.org", "10.88.0.2", "abc")  # only a part of the user's
