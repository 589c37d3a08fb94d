"""The verbs: bad input is one line, a hint and exit code 2; nothing is created."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke import Collection, Program

import tasks
from bakery.manifest import Catalogue
from tests.unit.samples import certificate_files, manifest

PROJECT = Path(__file__).parents[2]
PROGRAM = Program(namespace=Collection.from_module(tasks), name="inv", binary="inv")


@dataclass
class Said:
    code: int
    out: str
    err: str


Inv = Callable[..., Said]


@pytest.fixture
def inv(state: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Inv]:
    """Run a verb in this process as the command line does."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*words: str) -> Said:
        capsys.readouterr()
        code = 0
        try:
            PROGRAM.run(["inv", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def refused(said: Said) -> str:
    """Return the message of a refusal after looking at its form."""
    assert said.code == 2, said.err
    assert said.out == ""
    message, hint = said.err.splitlines()
    assert message.startswith("error: ")
    assert hint.startswith("  hint: ")
    return message.removeprefix("error: ")


def test_a_good_call_ends_well_and_looking_makes_nothing(inv: Inv, state: Path) -> None:
    said = inv("images")
    assert said.code == 0
    assert "deployed" in said.out
    assert inv("images", "--json").out == "[]\n"
    assert not state.exists()


FROM_ENVIRONMENT = [
    ({"BAKERY_HOSTNAM": "x"}, "no setting is called BAKERY_HOSTNAM"),
    ({"BAKERY_HOSTNAME": "x"}, "hostname: "),
    ({"MLFLOW_TRACKING_HOSTNAME": "x"}, "hostname: "),
    ({"BAKERY_NAME": "X"}, "name: "),
    ({"AZURE_STORAGE_CONTAINER": "--"}, "storage_container: "),
    ({"AZURE_STORAGE_ACCOUNT": "A"}, "storage_account: "),
    ({"AZURE_STORAGE_ACCESS_KEY": "?"}, "storage_access_key: must be base64"),
    ({"MLFLOW_TRACKING_PASSWORD": ""}, "password: must be 1 to 72 bytes"),
    ({"MLFLOW_TRACKING_PASSWORD": "x" * 73}, "password: must be 1 to 72 bytes"),
    ({"MLFLOW_TRACKING_PASSWORD": "a\tb"}, "password: must not hold control characters"),
    ({"MLFLOW_TRACKING_USERNAME": "a:b"}, "username: must not hold a colon"),
    ({"MLFLOW_TRACKING_USERNAME": ""}, "username: must be 1 to 72 bytes"),
    ({"MYSQL_USER": "root"}, "mysql_user: must not be root"),
    ({"BAKERY_CERTIFICATE": "/x.pem"}, "certificate and certificate_key go together"),
    ({"BAKERY_CERTIFICATE_ROOT": "/x.pem"}, "certificate_root without a certificate"),
    ({"BAKERY_CONFIG": "/nowhere.toml"}, "/nowhere.toml: no such file"),
]


@pytest.mark.parametrize("verb", ["up", "deploy", "status"])
@pytest.mark.parametrize(("given", "told"), FROM_ENVIRONMENT, ids=str)
def test_bad_settings(
    inv: Inv, monkeypatch: pytest.MonkeyPatch, verb: str, given: dict[str, str], told: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert told in refused(inv(verb))
    assert not Path(os.environ["BAKERY_STATE_DIR"]).exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("hostnme = 'm.example.org'\n", "no setting is called hostnme"), ("name = = 1\n", "Invalid")],
)
def test_a_bad_file(
    inv: Inv, state: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    file = state.with_name("bakery.toml")
    file.write_text(text)
    monkeypatch.setenv("BAKERY_CONFIG", str(file))
    message = refused(inv("up"))
    assert message.startswith(f"{file}: ")
    assert told in message
    assert not state.exists()


@pytest.mark.parametrize("words", [("bake", "--base", "debian-13"), ("up",)])
def test_without_root_nothing_is_made(
    inv: Inv, state: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in refused(inv(*words))
    assert not state.exists()


WORDS = [
    (["stauts"], "there is no verb stauts", "did you mean status?"),
    (["--help", "deplyo"], "there is no verb deplyo", "did you mean deploy?"),
    (["xyzzy"], "there is no verb xyzzy", "./inv --list"),
    (["destroy", "mlflow"], "there is no verb mlflow", "./inv destroy --help"),
    (["deploy", "--imge", "x"], "deploy has no option --imge", "did you mean --image?"),
    (["deploy", "--zzz"], "deploy has no option --zzz", "./inv deploy --help"),
    (["--nam", "x", "status"], "--nam: options come after the verb", "./inv --list"),
    (["logs", "--lines"], "logs: --lines needs a value", "./inv logs --help"),
    (["deploy", "--image"], "deploy: --image needs a value", "./inv deploy --help"),
    (["restore"], "restore needs to be told: backup", "./inv restore --help"),
    (["status", "--json=x"], "there is no verb x", "./inv status --help"),
]


@pytest.mark.parametrize(("words", "told", "hint"), WORDS, ids=str)
def test_misspelt_words_are_refused_with_the_nearest(
    inv: Inv, words: list[str], told: str, hint: str
) -> None:
    said = inv(*words)
    assert told in refused(said)
    assert hint in said.err.splitlines()[1]


def test_plain_invoke_refuses_alike() -> None:
    words = [str(Path(sys.executable).with_name("invoke")), "--search-root", str(PROJECT), "stauts"]
    done = subprocess.run(words, check=False, text=True, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == "error: there is no verb stauts\n  hint: did you mean status?\n"


OPTIONS = [
    (["train", "--where", "gpu.example.org"], "--where gpu.example.org: not known"),
    (["train", "--where", "local", "--gpus", "all"], "--gpus is for containers"),
    (["train", "--param", "epochs"], "--param epochs: not NAME=VALUE"),
    (["train", "--param", "a=1", "--param", "a=2"], "--param a is given twice"),
    (["train", "--project", "/nowhere"], "/nowhere: No such file or directory"),
    (["train", "--entry-point", "test"], "has no entry point test"),
    (["deploy", "--role", "gpu"], "--role gpu: not known"),
    (["gc", "--older-than", "a while"], "--older-than a while: no age"),
    (["bake", "--base", "arch"], "base: "),
    (["bake", "--driver", "vmware"], "driver: "),
    (["bake", "--keep", "always"], "--keep always: not known"),
    (["deploy", "--target", "moon"], "target: "),
    (["status", "--name", "../x"], "name: "),
    (["logs", "--service", "apache"], "there is no service apache"),
    (["logs", "--lines", "many"], "--lines many: not a count"),
    (["logs", "--lines", "0"], "--lines 0: not a count"),
    (["bench", "--runs", "x"], "--runs x: not a count"),
    (["bench", "--rows", "q"], "unknown rows: q"),
    (["test", "--only", "some"], "there are no some tests"),
    (["destroy", "--with-data"], "nobody can be asked"),
]


@pytest.mark.parametrize(("words", "told"), OPTIONS, ids=lambda one: " ".join(one[:3]))
def test_bad_options(
    inv: Inv, state: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert told in refused(inv(*words))
    assert not state.exists()


NOT_THERE = ["status", "check", "env", "logs", "ssh", "stop", "start", "train", "gc"]


@pytest.mark.parametrize("verb", NOT_THERE)
def test_a_deployment_that_is_not_there(inv: Inv, state: Path, verb: str) -> None:
    assert refused(inv(verb, "--name", "other")) == "no deployment is called other"
    assert not state.exists()


def test_destroying_what_is_not_there_is_no_fault(inv: Inv, state: Path) -> None:
    said = inv("destroy", "--with-data", "--yes")
    assert (said.code, said.out) == (0, "")
    assert "nothing to destroy: no deployment is called mlflow" in said.err
    assert not state.exists()


def test_deploying_nothing(inv: Inv, state: Path) -> None:
    assert refused(inv("deploy")) == "nothing has been baked"
    assert not state.exists()


@pytest.fixture
def image(state: Path) -> str:
    """An image that is recorded, though its disk is gone."""
    Catalogue(state, state / "pool").add(manifest("one"))
    return "one"


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("verb", ["deploy", "up"])
def test_a_bad_certificate_is_refused_before_anything(
    inv: Inv, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    before = below(state)
    chain, key = certificate_files(tmp_path, "other.example.org")
    monkeypatch.setenv("BAKERY_CERTIFICATE", str(chain))
    monkeypatch.setenv("BAKERY_CERTIFICATE_KEY", str(key))
    assert "not for mlflow.bakery.internal" in refused(inv(verb))
    certificate_files(tmp_path, "mlflow.bakery.internal", begin_days=-9, end_days=-1)
    assert "expired on" in refused(inv(verb))
    monkeypatch.setenv("BAKERY_CERTIFICATE_KEY", "/nowhere.pem")
    assert refused(inv(verb)) == "/nowhere.pem: No such file or directory"
    assert below(state) == before


def test_a_good_certificate_gets_further(
    inv: Inv, state: Path, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = certificate_files(tmp_path, "mlflow.bakery.internal")
    monkeypatch.setenv("BAKERY_CERTIFICATE", str(chain))
    monkeypatch.setenv("BAKERY_CERTIFICATE_KEY", str(key))
    assert refused(inv("deploy")) == "nothing has been baked", "its disk is gone"
    assert not (state / "deployments" / "mlflow").exists()


@pytest.mark.parametrize("verb", ["deploy", "up", "bake"])
def test_root_is_needed(
    inv: Inv, state: Path, image: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    before = below(state)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in refused(inv(verb))
    assert below(state) == before


def raises(error: BaseException) -> Callable[..., None]:
    def load(**_: object) -> None:
        raise error

    return load


def test_an_interrupt_and_an_error_of_the_system_have_no_traceback(
    inv: Inv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bakery.settings.load", raises(KeyboardInterrupt()))
    said = inv("status")
    assert (said.code, said.err) == (130, "interrupted; run it again to go on\n")
    error = OSError(28, "No space left on device", "/state")
    monkeypatch.setattr("bakery.settings.load", raises(error))
    said = inv("status")
    assert said.code == 1
    assert "error: /state: No space left on device\n  hint: free some space" in said.err


def command(*words: str, folder: Path, **given: str) -> Said:
    invoke = str(Path(sys.executable).with_name("invoke"))
    kept = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [invoke, "--search-root", PROJECT, *words], check=False, text=True, capture_output=True,
        cwd=folder, env={**kept, **given}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def test_the_real_command_line_from_elsewhere(tmp_path: Path) -> None:
    given = {"BAKERY_STATE_DIR": "state", "BAKERY_CONFIG": os.devnull}
    said = command("status", folder=tmp_path, **given)
    assert refused(said) == "no deployment is called mlflow"
    said = command("up", folder=tmp_path, **given, MLFLOW_TRACKING_PASSWORD="pa55\nword")
    assert "password: must not hold control characters" in refused(said)
    assert "pa55" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_every_verb_is_listed_with_its_sentence(tmp_path: Path) -> None:
    said = command("--list", folder=tmp_path)
    assert said.code == 0, said.err
    verbs = dict(re.findall(r"^  ([a-z]+) +(\S.*)", said.out, re.MULTILINE))
    assert {"up", "bake", "deploy", "check", "destroy", "env"} <= set(verbs)
    assert all(len(sentence.split()) > 2 for sentence in verbs.values()), verbs
