"""What the round trip and the suite inside the machine say becomes results."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery.checks import client, machine
from bakery.checks.result import shorten
from bakery.errors import BakeryError, InputError
from bakery.targets.base import BlobAccess, Server, SshAccess

SECRET = "pa'ss w\u00f6rd"


def server(folder: Path) -> Server:
    return Server(
        name="mlflow",
        hostname="mlflow.check.test",
        address="127.0.0.1",
        username="mlflow",
        password=SecretStr(SECRET),
        ca_file=None,
        # Nothing answers there, and nothing is asked.
        ssh=SshAccess("127.0.0.1", "bakery", folder / "a key", folder / "known", port=1),
        blob=BlobAccess("account", "container", SecretStr("a2V5"), "http://127.0.0.1:1/account"),
        data_disk_uuid="0",
    )


def stand_in(folder: Path, script: str) -> Path:
    """Return a program that is run in place of the client's Python."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_stages_become_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "given = json.load(sys.stdin)\n"
        "right = given['key'] == 'a2V5' and os.environ['MLFLOW_TRACKING_PASSWORD'] == "
        f"{SECRET!r} and {SECRET!r} not in ' '.join(sys.argv)\n"
        "near = 'mlflow.check.test' in os.environ['NO_PROXY']\n"
        "say = {'name': 'secrets', 'ok': right and near, 'detail': 'a  b', 'seconds': 0.5}\n"
        "print(json.dumps(say))"
    )
    python = stand_in(tmp_path, script)
    monkeypatch.setattr(client, "client_python", lambda _: python)
    (result,) = client.round_trip(server(tmp_path), cache=tmp_path)
    assert (result.name, result.ok, result.detail) == ("secrets", True, "a b")


def test_a_crash_of_the_client_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = stand_in(tmp_path, "sys.exit('ImportError: no pandas')")
    monkeypatch.setattr(client, "client_python", lambda _: python)
    (result,) = client.round_trip(server(tmp_path), cache=tmp_path)
    assert not result.ok
    assert "no pandas" in result.detail


def test_a_client_that_cannot_be_installed_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> Path:
        raise BakeryError("no index")

    monkeypatch.setattr(client, "client_python", refuse)
    (result,) = client.round_trip(server(tmp_path), cache=tmp_path)
    assert (result.ok, result.detail) == (False, "no index")


def test_suite_results_are_read_with_their_reasons(tmp_path: Path) -> None:
    suite = tmp_path / "test_some.py"
    suite.write_text(
        "import pytest\ndef test_good_one(): pass\n"
        "def test_bad_one(): assert [80] == [443]\n"
        "def test_left_out(): pytest.skip('why')\n"
        "@pytest.fixture\ndef broken(): raise OSError('no ssh')\n"
        "def test_broken(broken): pass\n"
    )
    report = tmp_path / "report.xml"
    words = ["-m", "pytest", "-q", str(suite), f"--junitxml={report}", "-p", "no:cacheprovider"]
    subprocess.run([sys.executable, *words], check=False, cwd=tmp_path, capture_output=True)
    results = {result.name: result for result in machine.read_report(report)}
    assert [name for name, result in results.items() if result.ok] == ["good one"]
    assert "[443]" in results["bad one"].detail
    assert "no ssh" in results["broken"].detail
    assert "why" in results["left out"].detail


def test_a_machine_that_does_not_answer_is_never_green(tmp_path: Path) -> None:
    results = machine.check_machine(server(tmp_path), tmp_path / "manifest.json")
    assert results
    assert not any(result.ok for result in results)


def test_without_the_suite_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SUITE", tmp_path)
    with pytest.raises(InputError, match="missing"):
        machine.check_machine(server(tmp_path), tmp_path / "manifest.json")


def test_ssh_reads_our_options_back(tmp_path: Path) -> None:
    words = machine._pytest(server(tmp_path), tmp_path / "report.xml", tmp_path)
    (config,) = [word for word in words if word.startswith("--ssh-config=")]
    ask = ["ssh", "-G", "-F", config.removeprefix("--ssh-config="), "127.0.0.1"]
    seen = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"identityfile {tmp_path / 'a key'}" in seen
    assert f"userknownhostsfile {tmp_path / 'known'}" in seen
    assert {"stricthostkeychecking true", "identitiesonly yes", "batchmode yes"} <= set(seen)
    assert SECRET not in json.dumps(words)


def test_long_reasons_become_one_line() -> None:
    assert shorten("a\n  b") == "a b"
    long = shorten("begin " + "word " * 100 + "end")
    assert len(long) == 240
    assert (long[:5], long[-3:]) == ("begin", "end")
