"""Looking inside a machine: logs, its console, a shell."""

import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from bakery import targets
from bakery.errors import BakeryError, InputError
from bakery.run import environment
from bakery.settings import Settings
from bakery.state import Generation
from bakery.targets.base import SshAccess, Target

SERVICES = ("mysql", "migrate", "mlflow", "traefik")
_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LINES = 100
_POLL_SECONDS = 1.0
_UNREACHABLE = 255
_INTERRUPTED = 130
# With a terminal of its own the command in the machine ends when we do; without its line ends.
_FOLLOWED = ["-tt"], ["stty", "-onlcr", ";", "exec"]


def logs(
    settings: Settings,
    service: str,
    *,
    lines: int | None = None,
    since: str = "",
    follow: bool = False,
) -> int:
    """Print a service's log, or the machine's journal, as it comes; return the exit code.

    Without `lines` it is the last 100, or all of them `since` a time. Ctrl-C ends it: 130.

    Raises:
        InputError: There is no such service, the time is none, or the machine is stopped.
        BakeryError: The machine does not answer.
    """
    if service not in (*SERVICES, "machine"):
        raise InputError(
            f"there is no service {service}", hint=f"one of {', '.join(SERVICES)}, machine"
        )
    moment = since_when(since) if since else None
    count = str(lines) if lines else "all" if moment else str(_LINES)
    target, generation = _running(settings)
    words = _log_words(service, count, moment, follow=follow)
    access = target.server().access
    if access is None:
        return _by_command(target, generation, words, follow=follow)
    options, before = _FOLLOWED if follow else ([], [])
    code = _stream(access, options, [*before, shlex.join(["sudo", *words]), "2>&1"])
    if code == _UNREACHABLE:
        raise BakeryError("the machine does not answer", hint="./inv status; ./inv console")
    return code


def since_when(text: str, now: datetime | None = None) -> datetime:
    """Return the moment that a user means: so long ago (90s, 10m, 2h, 1d), or a time in ISO 8601.

    Raises:
        InputError: It is neither.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return (now or datetime.now(UTC)) - span
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"--since {text}: not a time",
            hint="such as --since 10m (or s, h, d), or --since 2026-11-23T08:30",
        ) from None


def ssh_command(settings: Settings, command: str) -> list[str]:
    """Return the argv that logs in to the machine; `command` goes to its shell as it is.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    words = _words(targets.seen(settings).server().login, [])
    return [*words, "--", command] if command else words


def console(settings: Settings, *, lines: int | None = None, follow: bool = False) -> int:
    """Print the end of what the machine wrote to its console, and what it adds when `follow`.

    It is that of the newest generation: also of one that never became ready. Returns the exit
    code: Ctrl-C ends it with 130.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    target = targets.seen(settings)
    deployment = target.deployment
    generation = deployment.pending.generation if deployment.pending else deployment.generation
    if generation is None:
        target.server()
        return 0
    seen = _plain(target.console(generation))
    sys.stdout.write("".join(seen.splitlines(keepends=True)[-(lines or _LINES) :]))
    try:
        while follow:
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
            now = _plain(target.console(generation))
            sys.stdout.write(added(seen, now))
            seen = now
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def added(before: str, now: str) -> str:
    """Return what a text that is only appended to has more than before; either may be cut off."""
    if now.startswith(before):
        return now[len(before) :]
    end = before[-1000:]
    found = now.rfind(end)
    return now[found + len(end) :] if found >= 0 else now


def _plain(text: str) -> str:
    # Colours and cursor movements would garble the caller's terminal.
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return "".join(one for one in text if one in "\t\n" or one.isprintable())


def _log_words(service: str, count: str, since: datetime | None, *, follow: bool) -> list[str]:
    if service == "machine":
        words = ["journalctl", "--no-pager", "--lines", count]
        words += ["--since", f"{since:%Y-%m-%d %H:%M:%S} UTC"] if since else []
        return [*words, "--follow"] if follow else words
    words = ["docker", "logs", "--timestamps", "--tail", count]
    words += ["--since", f"{since:%Y-%m-%dT%H:%M:%SZ}"] if since else []
    words += ["--follow"] if follow else []
    return [*words, f"mlflow-{service}-1"]


def _by_command(target: Target, generation: Generation, words: list[str], *, follow: bool) -> int:
    """Print what a command in the machine says, where there is no SSH to see it come."""
    if follow:
        raise InputError(
            f"no SSH is open to {target.deployment.name}: its log cannot be followed",
            hint="./inv logs --since 10m, again and again; or set azure_ssh_sources",
        )
    # In one stream, as it came.
    done = target.execute(generation, ["sh", "-c", 'exec "$@" 2>&1', "sh", *words])
    if done.code == _UNREACHABLE:
        raise BakeryError(
            "the machine does not answer", hint="./inv status; ./inv console", tail=done.err.strip()
        )
    sys.stdout.write(done.out)
    return done.code


def _stream(access: SshAccess, options: list[str], command: list[str]) -> int:
    """Run a command in the machine with its output on ours."""
    sys.stdout.flush()
    words = [*_words(access, options), "--", " ".join(command)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment()) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return _INTERRUPTED


def _words(access: SshAccess, options: list[str]) -> list[str]:
    at = f"{access.user}@{access.host}"
    return ["ssh", *access.options, *options, "-p", str(access.port), at]


def _running(settings: Settings) -> tuple[Target, Generation]:
    target = targets.seen(settings)
    server, current = target.server(), target.deployment.generation
    if current is None or not target.running(current):
        raise InputError(
            f"{server.name} is stopped",
            hint="./inv start; what it last said is shown by ./inv console",
        )
    return target, current
