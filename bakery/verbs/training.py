"""The verbs about what a server is for: training, and clearing up after it."""

import sys
from pathlib import Path

from invoke import Context

from bakery import console, settings
from bakery.verbs import NAME, verb


@verb(
    **NAME,
    project="a folder with an MLproject file (default: the example, examples/wine)",
    where="local (default), docker, or ssh://USER@HOST",
    entry_point="of the project (default: main)",
    param="NAME=VALUE; more than once for more of them",
    experiment="log into this experiment (default: the project's name)",
    gpus="for containers: all, a number, or device=ID",
)
def train(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    project: str | None = None,
    where: str = "local",
    entry_point: str = "main",
    param: list[str] = [],  # noqa: B006 - how invoke knows that it can be repeated
    experiment: str = "",
    gpus: str = "",
) -> None:
    """Run an MLflow project against the server: here, in a container, or on a remote host."""
    from bakery.train import Order, parse_parameters
    from bakery.train import train as run_project

    order = Order(
        where=where,
        project=None if project is None else Path(project),
        entry_point=entry_point,
        parameters=parse_parameters(param),
        experiment=experiment,
        gpus=gpus,
    )
    link = run_project(settings.load(name=name, target=target), order)
    sys.stdout.write(f"{link}\n")


@verb(
    **NAME,
    older_than="only what was deleted longer ago, such as 30d or 12h",
    dry_run="only show what would be deleted",
    json="print what became of each as JSON",
)
def gc(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    older_than: str = "0s",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Delete for good the runs, models and experiments that MLflow only marked as deleted."""
    from bakery import purge

    found = settings.load(name=name, target=target)
    purged = purge.purge(found, older_than=older_than, dry_run=dry_run)
    console.show_json([vars(one) for one in purged], wanted=json)
    purge.report(purged, dry_run=dry_run)
