"""The door to child processes: what they see, what is told when they fail."""

import time
from pathlib import Path

import pytest

from bakery.errors import BakeryError, InputError
from bakery.run import last_lines, need, run, tail


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_output_is_given_back() -> None:
    done = run(shell("cat; echo err >&2"), stdin="in ä")
    assert (done.stdout, done.stderr) == ("in ä", "err\n")
    assert run(["cat"]).stdout == "", "nothing waits for the terminal"


def test_a_missing_program_is_told() -> None:
    with pytest.raises(InputError, match="no-such-program is not installed") as refused:
        run(["no-such-program"], hint="install it")
    assert refused.value.hint == "install it"
    with pytest.raises(FileNotFoundError, match="no-such-folder"):
        run(["true"], cwd=Path("/no-such-folder"))


def test_a_failure_shows_the_end_of_what_was_said() -> None:
    with pytest.raises(BakeryError, match="sh failed with code 3") as failed:
        run(shell("seq 100; seq 100 >&2; exit 3"), hint="what to do")
    assert failed.value.tail.splitlines() == [str(number) for number in range(86, 101)]
    assert failed.value.hint == "what to do"
    assert failed.value.exit_code == 1
    with pytest.raises(BakeryError) as failed:
        run(shell("echo on stdout; exit 1"))
    assert failed.value.tail == "on stdout"
    assert run(shell("exit 3"), check=False).returncode == 3


def test_a_log_gets_both_streams_as_they_come(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    run(shell("echo one; echo two >&2"), log=log)
    with pytest.raises(BakeryError) as failed:
        run(shell("echo three; exit 1"), log=log)
    assert log.read_text() == "one\ntwo\nthree\n"
    assert (failed.value.log, failed.value.tail) == (log, "one\ntwo\nthree")


def test_what_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(BakeryError, match=r"sleep did not end within 0\.2 s"):
        run(["sleep", "60"], timeout=0.2)
    assert time.monotonic() - started < 5
    run(["true"], timeout=5)


def test_the_environment_is_built_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("DOCKER_HOST", "elsewhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror")
    seen = dict(line.split("=", 1) for line in run(["env"]).stdout.splitlines())
    assert "MLFLOW_TRACKING_PASSWORD" not in seen
    assert "DOCKER_HOST" not in seen
    assert seen["LC_ALL"] == "C.UTF-8"
    assert seen["HTTPS_PROXY"] == "http://proxy"
    assert seen["PIP_INDEX_URL"] == "http://mirror"
    assert "ours=1" in run(["env"], env={"ours": "1"}).stdout


def test_system_tools_are_found_whatever_path_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert need("losetup", package="mount", why="disks").endswith("/losetup")
    assert "losetup" in run(["losetup", "--version"]).stdout


def test_secrets_by_stdin_and_environment_are_in_no_argv() -> None:
    script = "tr '\\0' ' ' </proc/$$/cmdline; cat >/dev/null; echo; printenv KEY"
    said = run(shell(script), stdin="pa55word", env={"KEY": "k3y"}).stdout
    argv, key = said.splitlines()
    assert "pa55word" not in argv
    assert "k3y" not in argv
    assert key == "k3y"


def test_output_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    script = r"printf 'a\377b\n'; exit 1"
    assert run(shell(script), check=False).stdout == "a\ufffdb\n"
    with pytest.raises(BakeryError) as failed:
        run(shell(script), log=tmp_path / "log")
    assert failed.value.tail == "a\ufffdb"


def test_a_missing_tool_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(InputError, match=r"no-such-tool is missing \(it boils\)") as refused:
        need("no-such-tool", package="kettle", why="it boils")
    assert refused.value.hint == "apt-get install kettle"
    assert refused.value.exit_code == 2


def test_tails(tmp_path: Path) -> None:
    assert last_lines("\n1\n2\n3\n\n", 2) == "2\n3"
    assert last_lines("") == ""
    assert tail(tmp_path / "nothing") == ""
