"""The client's environment, read back by the shells that would read it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from string import ascii_letters, digits, punctuation

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from bakery.env import BEGIN, END, client_variables, render_env, write_env
from bakery.errors import InputError
from bakery.targets.base import BlobAccess, Server, SshAccess

# Together: every printable ASCII symbol, spaces at both ends, other alphabets.
PASSWORDS = [
    f" {punctuation[:16]} {ascii_letters[:26]} ",
    f"  {punctuation[16:]}{digits}{ascii_letters[26:]}\u00fc\u20ac\u2019\\ ",
]
AWKWARD = [
    *PASSWORDS,
    punctuation,
    "'",
    "''",
    "\\",
    "\\\\",
    "\\'",
    "end\\",
    "'\\",
    '"',
    "-n",
    "!!",
    "`id`",
    "$(id)",
    "${HOME}",
    "a${HOME:-x}b\\",
    "${",
    "$${x}",
    "# no comment",
    "a #b",
    "~",
    "*",
    "%PATH%",
    "\u2018quoted\u2019",
    "\U0001f35e",
    " ",
]


def server(tmp_path: Path, password: str) -> Server:
    ssh = SshAccess("10.88.0.2", "bakery", tmp_path / "key", tmp_path / "known_hosts")
    blob = BlobAccess("devstoreaccount1", "mlflow", SecretStr("a"), "http://10.88.0.1:10000/d")
    return Server(
        name="mlflow",
        hostname="mlflow.test",
        address="10.88.0.2",
        username="mlflow",
        password=SecretStr(password),
        ca_file=tmp_path / "ca file.pem",
        ssh=ssh,
        blob=blob,
        data_disk_uuid="0",
    )


def as_seen_by(shell: str, first: str, names: Iterable[str], home: Path) -> dict[str, str]:
    """Return what a program sees that an interactive shell starts after its first command.

    The shell reads its start-up file, as on a terminal (`sh` does so when it is a login shell).
    """
    program = "import os; print({k: os.environ.get(k) for k in os.environ})"
    words = [shell, *(["-l"] if shell == "sh" else ["-i"]), "-c"]
    done = subprocess.run(
        [*words, f'{first}\n{sys.executable} -c "{program}"'],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        cwd=home, check=True, text=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    return {name: found.get(name) for name in names}


def test_passwords_cover_every_printable_symbol() -> None:
    assert {chr(code) for code in range(32, 127)} <= set("".join(PASSWORDS))
    assert max(len(password.encode()) for password in PASSWORDS) <= 72


# How each shell takes what `./inv env` prints, as docs/connect.md says.
TAKE = {
    "bash": 'eval "$(cat printed)"',
    "zsh": 'eval "$(cat printed)"',
    "sh": 'eval "$(cat printed)"',
    "fish": "cat printed | source",
}


@pytest.mark.parametrize("shell", TAKE)
def test_shells_take_what_is_printed(shell: str, tmp_path: Path) -> None:
    names = {f"SECRET_{number}": value for number, value in enumerate(AWKWARD)}
    (tmp_path / "printed").write_text(render_env(names, shell), encoding="utf-8")
    assert as_seen_by(shell, TAKE[shell], names, tmp_path) == names


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bashrc"),
        ("zsh", ".zshrc"),
        ("sh", ".profile"),
        ("fish", ".config/fish/config.fish"),
    ],
)
def test_new_shells_read_what_is_written(shell: str, file: str, tmp_path: Path) -> None:
    """Each reads its own start-up file by itself, as a new terminal does."""
    names = {f"SECRET_{number}": value for number, value in enumerate(AWKWARD)}
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("echo started >&2\n")
    write_env(path, render_env(names, shell))
    assert as_seen_by(shell, "", names, tmp_path) == names


@pytest.mark.parametrize("value", AWKWARD)
def test_python_dotenv_reads_the_value_back(value: str) -> None:
    text = render_env({"FIRST": value, "SECOND": "it's", "THIRD": value}, "dotenv")
    read = dotenv_values(stream=StringIO(text))
    assert read == {"FIRST": value, "SECOND": "it's", "THIRD": value}


def test_fish_and_powershell_quote_as_they_need() -> None:
    assert render_env({"S": "a'b\\c\u2019$x"}, "fish") == "set -gx S 'a\\'b\\\\c\u2019$x'\n"
    powershell = "$Env:S = 'a''b\\c\u2019\u2019$x'\n"
    assert render_env({"S": "a'b\\c\u2019$x"}, "powershell") == powershell


def test_unknown_shell_and_control_characters_are_refused() -> None:
    with pytest.raises(InputError, match="unknown shell 'csh'"):
        render_env({"S": "a"}, "csh")
    with pytest.raises(InputError, match="control character") as refused:
        render_env({"S": "geheim\n"}, "bash")
    assert "geheim" not in str(refused.value)


def test_variables_of_a_server(tmp_path: Path) -> None:
    variables = client_variables(server(tmp_path, PASSWORDS[0]), password=True)
    assert variables["MLFLOW_TRACKING_URI"] == "https://mlflow.test"
    assert variables["MLFLOW_TRACKING_PASSWORD"] == PASSWORDS[0]
    assert variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] == str(tmp_path / "ca file.pem")
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == variables["DO_NOT_TRACK"] == "true"
    without = client_variables(server(tmp_path, PASSWORDS[0]), password=False)
    assert "MLFLOW_TRACKING_PASSWORD" not in without
    assert PASSWORDS[0] not in without.values()


def test_write_keeps_the_rest_and_replaces_its_own_block(tmp_path: Path) -> None:
    path = tmp_path / "rc"
    path.write_bytes(b"alias a=b\r\n\xff no newline")
    path.chmod(0o644)
    assert write_env(path, "export A=1\n")
    first = b"alias a=b\r\n\xff no newline\n"
    assert path.read_bytes() == first + f"{BEGIN}\nexport A=1\n{END}\n".encode()
    path.write_bytes(path.read_bytes() + b"after\n")
    assert write_env(path, "export A=2\nexport B=3")
    block = f"{BEGIN}\nexport A=2\nexport B=3\n{END}\n".encode()
    assert path.read_bytes() == first + block + b"after\n"
    assert path.stat().st_mode & 0o777 == 0o600
    backup = tmp_path / "rc.bakery-backup"
    assert b"A=1" in backup.read_bytes()
    assert backup.stat().st_mode & 0o777 == 0o600


def test_write_is_idempotent(tmp_path: Path) -> None:
    path = tmp_path / "client.env"
    assert write_env(path, "A=1\n")
    seen = path.stat()
    path.chmod(0o644)
    assert not write_env(path, "A=1\n")
    assert path.stat().st_ino == seen.st_ino
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["client.env"]


def test_write_goes_through_a_link_and_leaves_it_one(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / "rc"
    real.write_text("mine\n")
    link.symlink_to(real)
    # A link that waits where the backup goes must not be followed.
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "dotfiles.bakery-backup").symlink_to(victim)
    assert write_env(link, "A=1\n")
    assert link.is_symlink()
    assert real.read_text().startswith("mine\n" + BEGIN)
    assert victim.read_text() == "untouched"


def test_write_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder to write into"):
        write_env(tmp_path / "not there" / "rc", "A=1\n")
    with pytest.raises(InputError, match="not a regular file"):
        write_env(tmp_path, "A=1\n")
    path = tmp_path / "rc"
    path.write_text(f"{BEGIN}\nA=1\n")
    with pytest.raises(InputError, match="broken"):
        write_env(path, "A=2\n")
    assert path.read_text() == f"{BEGIN}\nA=1\n"


def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rc"
    path.write_text("mine\n")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_env(path, "A=1\n")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("rc", "mine\n")]
