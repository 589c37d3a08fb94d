"""The one door to child processes: argv lists, a built environment, errors for people."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakery.errors import BakeryError, InputError

_PASSED_ON = (
    "HOME", "PATH", "TERM", "TMPDIR", "USER", "SSH_AUTH_SOCK",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    # Where a network's own authority signs: uv and npm must trust it, too.
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
_PASSED_ON_PREFIXES = ("PIP_", "UV_", "NPM_CONFIG_", "npm_config_")
_TAIL = 15
_GRACE = 30


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a child sees: a short list of the caller's variables, a fixed locale, `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    kept["PATH"] = _path()
    return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    check: bool = True,
    hint: str = "",
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return it with its output as text (stderr apart, or in `log` with stdout).

    Secrets go in by `env` or `stdin`, never by `argv`. With `log` the output is appended to that
    file as it comes. `timeout` is in seconds.

    Raises:
        InputError: The program is not there.
        BakeryError: It ended with another code than 0 (when `check`) or ran too long; the tail of
            its output is shown.
    """
    words = [str(word) for word in argv]
    name = Path(words[0]).name
    try:
        done = _run(words, env=env, cwd=cwd, stdin=stdin, log=log, timeout=timeout)
    except FileNotFoundError as missing:
        if cwd is not None and not cwd.is_dir():
            raise
        raise InputError(f"{name} is not installed", hint=hint) from missing
    except subprocess.TimeoutExpired as late:
        raise BakeryError(
            f"{name} did not end within {late.timeout:g} s", hint=hint, log=log
        ) from late
    if check and done.returncode != 0:
        output = tail(log) if log else last_lines(done.stderr or done.stdout)
        raise BakeryError(
            f"{name} failed with code {done.returncode}", hint=hint, log=log, tail=output
        )
    return done


@contextlib.contextmanager
def beside(argv: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block is; its input is a pipe that closes whenever this process ends.

    Raises:
        InputError: The program is not there.
    """
    words = [str(word) for word in argv]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    try:
        process = subprocess.Popen(
            words, env=environment(), encoding="utf-8", errors="replace", **pipes
        )
    except FileNotFoundError as missing:
        raise InputError(f"{words[0]} is not installed") from missing
    with process:
        try:
            yield process
        finally:
            process.terminate()


def stream(
    argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path | None = None, stdin: str = ""
) -> int:
    """Run a command whose output the user watches, on standard error; return its code.

    `env` is its whole environment. Interrupted, it gets the time to end in order.
    """
    process = subprocess.Popen(
        [str(word) for word in argv],
        env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=sys.stderr, encoding="utf-8",
        # An interrupt from the terminal reaches it through us, once.
        start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            process.communicate(stdin)
        except BaseException:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_GRACE)
            process.kill()
            raise
    return process.returncode


def _run(
    words: list[str],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: str | None,
    log: Path | None,
    timeout: float | None,
) -> subprocess.CompletedProcess[str]:
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    with contextlib.ExitStack() as stack:
        if log is None:
            given |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(log.open("a", encoding="utf-8"))
            given |= {"stdout": file, "stderr": subprocess.STDOUT}
        return subprocess.run(
            words, env=environment(env), cwd=cwd, timeout=timeout, check=False,
            # What a machine writes to its log need not be text.
            encoding="utf-8", errors="replace", **given,
        )  # fmt: skip


def need(tool: str, *, package: str, why: str) -> str:
    """Return the path of a tool that must be there.

    Raises:
        InputError: It is not on PATH; the hint is the command that installs it.
    """
    found = shutil.which(tool, path=_path())
    if found is None:
        raise InputError(f"{tool} is missing ({why})", hint=f"apt-get install {package}")
    return found


def _path() -> str:
    # After `su`, or for a user who is not root, PATH lacks the places of system tools.
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def last_lines(text: str, count: int = _TAIL) -> str:
    """Return the last lines of a text."""
    return "\n".join(text.strip().splitlines()[-count:])


def tail(log: Path, count: int = _TAIL) -> str:
    """Return the last lines of a log file, or nothing when there is none."""
    try:
        return last_lines(log.read_text(encoding="utf-8", errors="replace"), count)
    except OSError:
        return ""
