"""A measured quantity, and how a list of them is shown."""

import json
import statistics
import sys
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measure:
    """One line of the table: the values of all runs; shown is their median."""

    row: str
    what: str
    values: list[float]
    unit: str
    aim: str = ""

    @property
    def median(self) -> float:
        """The median of all runs."""
        return statistics.median(self.values)


def ratio(row: str, what: str, above: Measure, below: Measure, aim: str) -> Measure:
    """Return how many times one median is of another."""
    return Measure(row, what, [above.median / below.median], "times", aim)


def print_table(measures: list[Measure]) -> None:
    """Print the medians as a table on standard output."""
    table = Table(title="Medians")
    for title in ("row", "what", "median", "unit", "lowest", "highest", "runs", "aim"):
        right = title in {"median", "lowest", "highest", "runs"}
        table.add_column(title, justify="right" if right else "left")
    for one in measures:
        table.add_row(
            one.row, one.what, _short(one.median), one.unit,
            _short(min(one.values)), _short(max(one.values)), str(len(one.values)), one.aim,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def print_json(measures: list[Measure]) -> None:
    """Print everything as JSON on standard output."""
    rows = [asdict(one) | {"median": one.median} for one in measures]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"
