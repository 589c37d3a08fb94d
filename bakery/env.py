"""What an MLflow client needs in its environment, written for a shell or a .env file."""

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from bakery.errors import InputError
from bakery.targets.base import Server

Shell = Literal["bash", "zsh", "sh", "fish", "powershell", "dotenv"]

BEGIN = "# >>> mlflow-bakery >>>"
END = "# <<< mlflow-bakery <<<"

# PowerShell takes typographic apostrophes for quotes, too.
_POWERSHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_CONTROL = re.compile("[\x00-\x1f\x7f\x80-\x9f]")


def client_variables(server: Server, *, password: bool) -> dict[str, str]:
    """Return the variables that point a client at a server; the password only when asked for."""
    variables = {
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_USERNAME": server.username,
    }
    if password:
        variables["MLFLOW_TRACKING_PASSWORD"] = server.password.get_secret_value()
    if server.ca_file is not None:
        variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(server.ca_file.absolute())
    return variables | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Large artifacts take longer than the client's 120 s; a dead server is no reason for the
        # minutes of silence that its 7 retries mean.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "900",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    }


def render_env(variables: Mapping[str, str], shell: str) -> str:
    """Return lines that set the variables in a shell (see `Shell`), one line each.

    Raises:
        InputError: The shell is unknown, or a value has a control character in it.
    """
    line = _LINES.get(shell)
    if line is None:
        raise InputError(f"unknown shell {shell!r}", hint=f"one of {', '.join(get_args(Shell))}")
    for name, value in variables.items():
        if _CONTROL.search(value):
            raise InputError(f"{name} has a control character in it", hint="choose another value")
    return "".join(f"{line(name, value)}\n" for name, value in variables.items())


def write_env(path: Path, text: str) -> bool:
    """Put the text into our own marked block of a file and return whether that changed anything.

    The rest of the file stays; a file that changes is kept beside it as NAME.bakery-backup. Both
    get mode 0600. A symbolic link stays one: what it points to is changed.

    Raises:
        InputError: The path is no regular file, cannot be written, belongs to somebody else, or its
            block is broken.
    """
    real = path.resolve()
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise InputError(f"{real.parent} is no folder to write into", hint="name another file")
    before = _read_own(real)
    after = _with_block(before or "", text, real)
    if before == after:
        real.chmod(0o600)
        return False
    owner = real.stat() if before is not None else None
    if before is not None:
        _write(real.with_name(f"{real.name}.bakery-backup"), before, owner)
    _write(real, after, owner)
    return True


def _read_own(path: Path) -> str | None:
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path} is not a regular file", hint="name another file")
    if path.stat().st_uid != os.geteuid() != 0:
        raise InputError(f"{path} belongs to another user", hint="name a file of your own")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} cannot be read", hint="name another file, or make it readable")
    # Bytes that are not UTF-8, and line ends, must come out as they went in.
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _with_block(before: str, text: str, path: Path) -> str:
    block = f"{BEGIN}\n{text.rstrip(chr(10))}\n{END}\n"
    starts, ends = before.count(BEGIN), before.count(END)
    if starts == ends == 0:
        gap = "" if not before or before.endswith("\n") else "\n"
        return before + gap + block
    if (starts, ends) != (1, 1) or before.index(END) < before.index(BEGIN):
        raise InputError(
            f"the block of mlflow-bakery in {path} is broken",
            hint=f"remove the lines from {BEGIN!r} to {END!r}, then try again",
        )
    head, rest = before.split(BEGIN)
    return head + block + rest.split(END)[1].removeprefix("\r").removeprefix("\n")


def _write(path: Path, text: str, owner: os.stat_result | None) -> None:
    # mkstemp: mode 0600 from the first byte on, and never through a link that lies in wait.
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        if owner is not None and os.geteuid() == 0:
            os.chown(temporary, owner.st_uid, owner.st_gid)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _posix(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    return f"$Env:{name} = '{_POWERSHELL_QUOTES.sub(lambda quote: quote[0] * 2, value)}'"


def _dotenv(name: str, value: str) -> str:
    """Write what python-dotenv (and so `mlflow --env-file`) reads back.

    Two things cannot be said to it directly, so they are said as the default of a variable
    without a name: `${`, which it expands even between single quotes, and a backslash at the end,
    which it takes together with the closing quote.
    """
    end = "${:-\\\\}" if value.endswith("\\") else ""
    body = value.removesuffix("\\") if end else value
    quoted = body.replace("\\", "\\\\").replace("'", "\\'").replace("${", "${:-$}{")
    return f"{name}='{quoted}{end}'"


_LINES: dict[str, Callable[[str, str], str]] = {
    "bash": _posix,
    "zsh": _posix,
    "sh": _posix,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}
