"""What the verbs print: errors, results, access; and machine-readable on standard output only."""

import errno
import io
import json
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery import console
from bakery.checks import CheckResult
from bakery.errors import BakeryError, InputError
from bakery.targets.base import BlobAccess, Server
from tests.unit.samples import access

Capture = pytest.CaptureFixture[str]


def server(name: str = "mlflow") -> Server:
    return Server(
        name=name,
        hostname="m.example.org",
        address="10.88.0.2",
        username="someone",
        password=SecretStr("pa55word"),
        ca_file=None,
        ssh=access(),
        blob=BlobAccess("a", "c", SecretStr("k3y"), "http://x"),
        data_disk_uuid="u",
    )


def test_an_error_is_its_tail_one_line_a_hint_and_the_log(capsys: Capture) -> None:
    tail = "[red]said[/red]\nlast"
    console.show_error(BakeryError("it failed", hint="do [this]", log=Path("/l"), tail=tail))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{tail}\nerror: it failed\n  hint: do [this]\n  log: /l\n"
    console.show_error(BakeryError("alone"))
    assert capsys.readouterr().err == "error: alone\n"


def test_exit_codes_tell_bad_input_from_failure() -> None:
    assert (BakeryError("x").exit_code, InputError("x").exit_code) == (1, 2)


def test_errors_of_the_system_are_told_with_what_to_do() -> None:
    full = console.from_os(OSError(errno.ENOSPC, "No space left on device", "/state/x"))
    assert str(full) == "/state/x: No space left on device"
    assert "BAKERY_STATE_DIR" in full.hint
    assert "root" in console.from_os(PermissionError(errno.EACCES, "Permission denied", "/x")).hint
    assert str(console.from_os(ConnectionError("refused"))) == "refused"


def test_access_is_told_without_the_password(capsys: Capture) -> None:
    console.show_access(server())
    out, err = capsys.readouterr()
    assert out == ""
    assert "https://m.example.org" in err
    assert "someone" in err
    assert '  clients   eval "$(./inv env)"\n' in err
    assert "pa55word" not in err
    assert "k3y" not in err
    console.show_access(server("other"))
    assert './inv env --name other)"' in capsys.readouterr().err


RESULTS = [
    CheckResult("ports", True, "22 [80] 443", 0.1),
    CheckResult("login", False, "got 200 [bold]", 0.2),
]


def test_every_result_is_a_line_and_a_failure_fails(capsys: Capture) -> None:
    with pytest.raises(BakeryError, match="1 of 2 checks failed: login"):
        console.show_results(RESULTS, as_json=False)
    assert capsys.readouterr().err == "ok     ports 22 [80] 443\nfailed login got 200 [bold]\n"
    console.show_results(RESULTS[:1], as_json=False)
    assert "1 checks passed" in capsys.readouterr().err


def test_results_as_json(capsys: Capture) -> None:
    with pytest.raises(BakeryError):
        console.show_results(RESULTS, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["ok"]) for row in rows] == [("ports", True), ("login", False)]


def test_status(capsys: Capture) -> None:
    values = {"name": "x", "containers": {"mysql": "Up", "mlflow": "Exited"}, "image": None}
    console.show_status(values, as_json=True)
    assert json.loads(capsys.readouterr().out) == values
    console.show_status(values, as_json=False)
    assert "mysql Up, mlflow Exited" in capsys.readouterr().out


def test_the_environment_is_printed_or_written(tmp_path: Path, capsys: Capture) -> None:
    values = {"MLFLOW_TRACKING_USERNAME": "ü $"}
    console.show_environment(values, shell="sh", write=None, as_json=True)
    assert json.loads(capsys.readouterr().out) == values
    console.show_environment(values, shell="sh", write=None, as_json=False)
    assert "export MLFLOW_TRACKING_USERNAME='ü $'" in capsys.readouterr().out
    file = tmp_path / ".env"
    console.show_environment(values, shell="dotenv", write=str(file), as_json=False)
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"written to {file}\n")
    assert "ü $" in file.read_text()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_data_is_destroyed_only_when_its_name_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("mlflow\n"))
    console.confirm("mlflow")
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    with pytest.raises(InputError, match="nothing was destroyed"):
        console.confirm("mlflow")
    monkeypatch.setattr(sys, "stdin", io.StringIO("mlflow\n"))
    with pytest.raises(InputError, match="nobody can be asked") as refused:
        console.confirm("mlflow")
    assert refused.value.hint == "--yes"


def test_a_program_s_exit_code_is_handed_on(capsys: Capture) -> None:
    assert console.hand_over(["sh", "-c", "exit 7"]) == 7
    assert "exit 7" in capsys.readouterr().err
