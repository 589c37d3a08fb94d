"""The verbs about images: what there is, what may go."""

import sys
from pathlib import Path

from invoke import Context

from bakery import settings
from bakery.verbs import number, verb

_TARGET = "whose images: local (default) or azure"


@verb(target=_TARGET, json="print it as JSON")
def images(context: Context, target: str | None = None, json: bool = False) -> None:
    """What has been baked, what is deployed, what differs."""
    from bakery import tables
    from bakery.images import images as list_images

    tables.show_images(list_images(settings.load(target=target)), as_json=json)


@verb(
    target=_TARGET,
    keep="how many of the newest images stay (default: 3)",
    yes="delete; without it, only tell what would be deleted",
    json="print it as JSON",
)
def prune(
    context: Context,
    target: str | None = None,
    keep: str = "3",
    yes: bool = False,
    json: bool = False,
) -> None:
    """Delete images that nobody needs: never one that is deployed, kept or the newest."""
    from bakery import tables
    from bakery.images import prune as prune_images

    doomed = prune_images(settings.load(target=target), keep=number("keep", keep), do=yes)
    tables.show_doomed(doomed, done=yes, as_json=json)


@verb()
def lock(context: Context) -> None:
    """Resolve every input of a bake anew: images/lock.toml and the locks with hashes."""
    from bakery.lock import lock as resolve

    found = settings.load()
    cache = found.state_dir.absolute() / "cache"
    resolve(cache=cache, registry=found.registry, tls_verify=found.registry_tls_verify)


@verb(
    target="what is baked: local (default) or azure",
    base="ubuntu-20.04 (default), ubuntu-22.04, ubuntu-24.04 or debian-13",
    summary="append the report to this file, such as $GITHUB_STEP_SUMMARY, instead of printing it",
    json="print what came of it as JSON instead",
)
def refresh(
    context: Context,
    target: str | None = None,
    base: str | None = None,
    summary: str | None = None,
    json: bool = False,
) -> None:
    """Lock every input anew and bake; the new image counts when it has passed its test."""
    from bakery import tables
    from bakery.refresh import refresh as refresh_images

    found = settings.load(target=target, base=base)
    done = refresh_images(found, summary=Path(summary) if summary else None)
    if json:
        tables.show_rows({"image": done.image.id, "new": done.new, "before": done.old})
    elif not summary:
        sys.stdout.write(done.report)
