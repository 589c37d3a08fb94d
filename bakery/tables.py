"""Tables about images, hosts and costs; as JSON where a script reads."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from bakery.console import print_table
from bakery.cost import Cost
from bakery.doctor.finding import Finding
from bakery.log import note
from bakery.plan import Change
from bakery.shelf import Doomed, Image


def show_images(found: Sequence[Image], *, as_json: bool) -> None:
    """Print the images, newest last, where each is deployed, how it differs from what is."""
    if as_json:
        show_rows([_row(one) for one in found])
        return
    table = _table("image", "base", "mlflow", "size", "state", "deployed", "kept for", "differs")
    for one in found:
        base, version = (one.manifest.base.name, _version(one)) if one.manifest else ("", "")
        users = ", ".join(one.deployed), ", ".join(one.kept)
        state = f"{one.state}, NVIDIA" if one.gpu else one.state
        table.add_row(one.id, base, version, _gib(one.size), state, *users, one.differs)
    print_table(table)


def show_doomed(doomed: Sequence[Doomed], *, done: bool, as_json: bool) -> None:
    """Print what was deleted, or what would be."""
    if as_json:
        show_rows([{**asdict(one), "deleted": done} for one in doomed])
        return
    table = _table("what", "name", "why", "size")
    for one in doomed:
        table.add_row(one.kind, one.name, one.why, _gib(one.size))
    if doomed:
        print_table(table)
    if not doomed:
        note("nothing to delete")
    elif not done:
        note("nothing was deleted: --yes does it")


def show_findings(found: Sequence[Finding], *, as_json: bool) -> None:
    """Print every prerequisite, and what mends those that are missing."""
    if as_json:
        show_rows([asdict(one) for one in found])
        return
    table = _table("", "what", "found", "what to do")
    for one in found:
        mark = "[green]ok[/green]" if one.ok else "[red]missing[/red]"
        table.add_row(mark, escape(one.name), escape(one.detail), "" if one.ok else escape(one.fix))
    print_table(table)
    missing = [one.name for one in found if not one.ok]
    for one in found:
        if one.note:
            note(f"{one.name}: {one.note}")
    note(f"missing: {', '.join(missing)}" if missing else "everything is there")


def show_cost(cost: Cost, *, as_json: bool) -> None:
    """Print what a deployment costs a month, by its parts."""
    if as_json:
        rows = [{**asdict(one), "month": one.month} for one in cost.items]
        facts = {"region": cost.region, "prices_of": cost.date, "note": cost.note}
        show_rows({"currency": "USD", "month": cost.month, **facts, "items": rows})
        return
    if cost.items:
        table = _table("what", "quantity", "price", "USD a month")
        for one in cost.items:
            quantity = f"{one.quantity:g} {one.unit}"
            table.add_row(escape(one.what), quantity, f"{one.price:g}", f"{one.month:.2f}")
        table.add_row("all", "", "", f"{cost.month:.2f}")
        print_table(table)
        note(f"retail prices in {cost.region}, of {cost.date}")
    note(cost.note)


def show_plan(changes: Sequence[Change], *, as_json: bool) -> None:
    """Print what would be done."""
    if as_json:
        show_rows([asdict(one) for one in changes])
        return
    table = _table("would", "what", "why")
    for one in changes:
        table.add_row(one.action, escape(one.what), escape(one.why))
    if changes:
        print_table(table)
    note("nothing was done" if changes else "nothing to do")


def show_rows(rows: Sequence[dict[str, Any]] | dict[str, Any]) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(rows, indent=2, default=str) + "\n")


def _row(one: Image) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": one.id}
    if one.manifest:
        facts = json.loads(one.manifest.model_dump_json(by_alias=True))
    users = {"deployed": ", ".join(one.deployed), "kept": ", ".join(one.kept)}
    kind = {"state": one.state, "gpu": one.gpu}
    return {**facts, "id": one.id, **kind, **users, "differs": one.differs}


def _version(one: Image) -> str:
    containers = one.manifest.containers if one.manifest else []
    return next((container.version for container in containers if container.name == "mlflow"), "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size else ""


def _table(*titles: str) -> Table:
    table = Table(box=None)
    for title in titles:
        table.add_column(escape(title))
    return table
