"""What a deployment remembers: whole or not at all, secret, and one run at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery.errors import BakeryError, InputError
from bakery.network import Network
from bakery.state import (
    Deployment,
    DeploymentFolder,
    Generation,
    Secrets,
    whoever,
    write_atomically,
)
from tests.unit.samples import ALL_SYMBOLS, secret


@pytest.fixture
def folder(tmp_path: Path) -> DeploymentFolder:
    return DeploymentFolder(tmp_path, "x")


def test_facts_are_read_as_written(folder: DeploymentFolder) -> None:
    assert folder.load() is None
    made = Deployment(
        name="x",
        network=Network("bk1", "10.88.0.0/28"),
        generation=Generation(number=2, image="i"),
        data_disk_served=True,
    )
    folder.save(made)
    assert folder.load() == made
    assert folder.deployed() == made


def test_two_deployments_differ_though_their_names_are_the_same() -> None:
    one, other = Deployment(name="x"), Deployment(name="x")
    assert one.id != other.id
    assert one.data_disk_uuid != other.data_disk_uuid


def test_secrets_are_read_as_written_and_nobody_else_can(folder: DeploymentFolder) -> None:
    assert folder.load_secrets() is None
    password = f' "{ALL_SYMBOLS[:40]}äß漢 '
    values = Secrets(password=SecretStr(password), password_hash="$2b$", storage_key=SecretStr("k"))
    folder.save_secrets(values)
    found = folder.load_secrets()
    assert found == values
    assert found is not None
    assert secret(found.password) == password
    assert folder.secrets.stat().st_mode & 0o777 == 0o600
    assert password not in repr(found)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"name": 1, "other": "hunter2"}'])
def test_a_damaged_file_is_told_and_not_quoted(folder: DeploymentFolder, text: bytes) -> None:
    folder.path.mkdir(parents=True)
    for file, load in ((folder.facts, folder.load), (folder.secrets, folder.load_secrets)):
        file.write_bytes(text)
        with pytest.raises(BakeryError, match=f"{file} is damaged") as refused:
            load()
        assert refused.value.hint
    assert "hunter2" not in f"{refused.value} {refused.value.tail}"
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_what_is_not_deployed_is_told(folder: DeploymentFolder) -> None:
    with pytest.raises(InputError, match="no deployment is called x") as refused:
        folder.deployed()
    assert refused.value.hint == "./inv up"


def test_two_runs_are_kept_apart(
    folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = DeploymentFolder(folder.path.parents[1], "x")
    with folder.locked():
        with pytest.raises(
            BakeryError,
            match=f"x is being worked on by {whoever()}, process {os.getpid()}, since 20",
        ):
            other.locked().__enter__()
        with DeploymentFolder(folder.path.parents[1], "y").locked():
            pass
    capsys.readouterr()
    with other.locked():
        pass
    assert capsys.readouterr().err == "", "nobody was left behind"


def test_a_killed_run_leaves_no_lock(
    folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, signal, pathlib; from bakery.state import DeploymentFolder\n"
        f"with DeploymentFolder(pathlib.Path({str(folder.path.parents[1])!r}), 'x').locked():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    assert (folder.path / "lock").exists()
    with folder.locked():
        pass
    assert f"the last run ended without a word: {whoever()}" in capsys.readouterr().err


def test_a_refused_first_run_leaves_no_trace_but_one_that_made_something_does(
    folder: DeploymentFolder,
) -> None:
    with pytest.raises(InputError), folder.locked():
        raise InputError("refused")
    assert not folder.path.exists()
    with folder.locked():
        folder.save(Deployment(name="x"))
    with folder.locked():
        pass
    assert folder.load() is not None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_atomically(file, "old")
    assert file.stat().st_mode & 0o777 == 0o600
    write_atomically(file, "neü", mode=0o644)
    assert file.read_text() == "neü"
    assert file.stat().st_mode & 0o777 == 0o644
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "half \udcff")
    assert file.read_text() == "neü"
    write_atomically(file, "once more")
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_the_nearest_names_are_shown(tmp_path: Path) -> None:
    for name in ("mlflow", "mlfow2", "other"):
        DeploymentFolder(tmp_path, name).save(Deployment(name=name))
    with pytest.raises(InputError, match="no deployment is called mlfow") as refused:
        DeploymentFolder(tmp_path, "mlfow").deployed()
    assert "mlfow2, mlflow" in refused.value.hint
    assert "other" not in refused.value.hint
    with pytest.raises(InputError) as refused:
        DeploymentFolder(tmp_path, "zzzz").deployed()
    assert "mlflow, mlfow2, other" in refused.value.hint
