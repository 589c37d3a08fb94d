"""What the verbs print: errors with their hints, tables, access, JSON where a script reads."""

import errno
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bakery import env
from bakery.checks import CheckResult
from bakery.errors import BakeryError, InputError
from bakery.log import console, note
from bakery.settings import Settings
from bakery.state import DeploymentFolder, Event
from bakery.targets.base import Server


def show_error(error: BakeryError) -> None:
    """Print what failed, the log's tail that matters, and what to do next."""
    if error.tail:
        console.print(error.tail, style="dim", markup=False)
    console.print(f"error: {error}", style="bold red", markup=False)
    if error.hint:
        console.print(f"  hint: {error.hint}", markup=False)
    if error.log:
        console.print(f"  log: {error.log}", markup=False)


def show_interrupt() -> None:
    """Say that the run was interrupted and what to do."""
    console.print("interrupted; run it again to go on", style="bold red")


def from_os(error: OSError) -> BakeryError:
    """Turn an error of the operating system into one for people."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    hints = {
        errno.ENOSPC: "free some space, or set BAKERY_STATE_DIR to a folder on another disk",
        errno.EACCES: "run it as root, or check the permissions",
        errno.EPERM: "run it as root, or check the permissions",
    }
    return BakeryError(what, hint=hints.get(error.errno or 0, ""))


@contextmanager
def total_time() -> Iterator[None]:
    """Say at the end how long all of it took."""
    started = time.monotonic()
    yield
    note(f"done in {time.monotonic() - started:.0f} s")


def show_access(server: Server) -> None:
    """Print how to reach a server; the password itself is not shown."""
    note(f"  url       {server.url}")
    note(f"  user      {server.username}")
    note("  password  ./inv env --show-password" + _named(server))
    note(f'  clients   eval "$(./inv env{_named(server)})"')


def show_training(settings: Settings, docker_host: str) -> None:
    """Print how to train on the training machine."""
    note(f"  docker    {docker_host}")
    note(f"  train     ./inv train --where {docker_host}{_named(settings)}")


def _named(deployment: Server | Settings) -> str:
    return "" if deployment.name == "mlflow" else f" --name {deployment.name}"


def show_results(results: Sequence[CheckResult], *, as_json: bool) -> None:
    """Print what was checked.

    Raises:
        BakeryError: A check failed.
    """
    if as_json:
        rows = [{"name": r.name, "ok": r.ok, "detail": r.detail} for r in results]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    failed = [result.name for result in results if not result.ok]
    for result in results:
        mark = "[green]ok[/green]    " if result.ok else "[red]failed[/red]"
        if not as_json:
            console.print(f"{mark} {result.name} [dim]{escape(result.detail)}[/dim]")
    if failed:
        raise BakeryError(f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}")
    note(f"{len(results)} checks passed")


def show_status(values: dict[str, Any], *, as_json: bool) -> None:
    """Print the state of a deployment."""
    if as_json:
        sys.stdout.write(json.dumps(values, indent=2, default=str) + "\n")
        return
    table = Table(show_header=False, box=None)
    for key, value in values.items():
        table.add_row(key, _shown(value))
    print_table(table)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {state}" for name, state in value.items())
    return str(value)


def show_history(events: Sequence[Event], *, as_json: bool) -> None:
    """Print what ran when, newest last."""
    if as_json:
        rows = [json.loads(event.model_dump_json()) for event in events]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table(box=None)
    for title in (
        "when",
        "by",
        "did",
        "generation",
        "image",
        "mlflow",
        "schema",
        "took",
        "outcome",
    ):
        table.add_column(title)
    for one in events:
        when = f"{one.started.astimezone():%Y-%m-%d %H:%M:%S}"
        row = (when, one.by, one.action, str(one.generation), one.image, one.mlflow, one.revision)
        table.add_row(*row, f"{one.seconds:.0f} s", escape(one.outcome))
    print_table(table)


def read_password() -> SecretStr:
    """Read a password from standard input: all of it but the end of its line."""
    return SecretStr(sys.stdin.read().removesuffix("\n").removesuffix("\r"))


def show_password(settings: Settings, user: str, password: str, *, given: bool) -> None:
    """Print a password that was made for a user, on a terminal only; it is kept nowhere."""
    if given:
        return
    if sys.stdout.isatty():
        note(f"the password of {user}, shown only this once:")
        sys.stdout.write(f"{password}\n")
        return
    where = str(DeploymentFolder(settings.state_dir, settings.name).secrets)
    if settings.target == "azure":
        where = "secrets.json in the container bakery of the storage account"
    note(f"the password of {user} is in {where} (passwords)")


def show_rotated(settings: Settings, *, password: bool) -> None:
    """Say how clients get what was rotated."""
    if password:
        named = "" if settings.name == "mlflow" else f" --name {settings.name}"
        note(f'clients get the new password by  eval "$(./inv env{named})"')


def show_json(values: object, *, wanted: bool) -> None:
    """Print a result on standard output, for a script that asked for it."""
    if wanted:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")


def show_backups(found: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the backups, newest first, and where each lies."""
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    table = Table(box=None)
    for title in ("backup", "age", "mlflow", "runs", "size", "where", "kept"):
        table.add_column(title)
    for one in found:
        size = f"{one['bytes'] / 2**20:.1f} MiB"
        runs, where = str(one["rows"].get("runs", 0)), ", ".join(one["places"])
        row = (one["age"], one["mlflow"], runs, size, where, one["kept"])
        table.add_row(one["name"], *row)
    print_table(table)


def show_environment(
    variables: dict[str, str], *, shell: str, write: str | None, as_json: bool
) -> None:
    """Print the clients' environment, or write it into a file of the user's."""
    if as_json:
        sys.stdout.write(json.dumps(variables, indent=2, ensure_ascii=False) + "\n")
        return
    text = env.render_env(variables, shell)
    if write is None:
        sys.stdout.write(text)
        return
    env.write_env(Path(write), text)
    note(f"written to {write}")


def confirm(name: str) -> None:
    """Ask for the deployment's name before its data is destroyed.

    Raises:
        InputError: Another name was typed, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked whether to destroy the data", hint="--yes")
    answer = console.input(f"This destroys every run of {name}. Type its name: ")
    if answer.strip() != name:
        raise InputError("another name was typed: nothing was destroyed")


def hand_over(words: list[str]) -> int:
    """Run an interactive program on the user's terminal; return its exit code."""
    if not sys.stdin.isatty():
        console.print(shlex.join(words), style="dim", markup=False)
    return subprocess.run(words, check=False).returncode


def print_table(table: Table) -> None:
    """Print a table on standard output, unfolded when that is no terminal."""
    Console(width=None if sys.stdout.isatty() else 200).print(table)
