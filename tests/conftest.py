"""What the tests share: the state folder of this run, its image, deployments that end."""

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bakery import PROJECT, Bakery

# What they find wrong is told in full, as it is of a test.
pytest.register_assert_rewrite("tests.azure.matrix", "tests.azure.stage")


@pytest.fixture(scope="session")
def state() -> Path:
    """The state folder of the tests; its caches and images outlive a run, nothing else does."""
    return Path(os.environ.get("TEST_STATE_DIR", PROJECT / ".bakery-test"))


@pytest.fixture(scope="session")
def image(state: Path) -> str:
    """The id of the image of this working tree, baked once for all workers."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        bakery = Bakery(state, "unused")
        bakery.ok("bake", "--base", "debian-13", timeout=1500)
        return str(json.loads(bakery.ok("bake", "--base", "debian-13", "--json").out)["id"])


@pytest.fixture(scope="module")
def make_bakery(state: Path, image: str) -> Iterator[Callable[..., Bakery]]:
    """Make deployments with names of their own; all are destroyed at the module's end."""
    with ExitStack() as stack:

        def make(**extra: str) -> Bakery:
            made = Bakery(state, f"t{uuid.uuid4().hex[:8]}", extra)
            stack.callback(made.destroy)
            return made

        yield make


@pytest.fixture(scope="module")
def server(make_bakery: Callable[..., Bakery]) -> Bakery:
    """A deployed server, for the tests of one module."""
    made = make_bakery()
    made.ok("deploy")
    return made


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="run the fault matrices whole")
    parser.addoption("--pictures", action="store_true", help="take the pictures of docs/pictures")


# The longest files first, so that no worker ends long after the other. The very first bakes,
# while another worker does what needs no image.
LONG = (
    *("interrupts", "containers", "killed", "bases", "replace", "pages", "fresh_host", "train"),
    *("upgrade", "crashes", "backup", "azure_box", "rotate", "artifacts", "faults", "qemu"),
    *("matrix", "deployment", "training", "resumed", "every_day", "azure_bake"),
    *("refresh_workflow", "registry", "up"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by how long they take; within a file nothing changes."""

    def rank(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the cases of the fault matrices that ran: a slice is named, not hidden."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            cases = [value for name, value in report.user_properties if name == "case"]
            if report.when == "call" and cases:
                terminalreporter.section(report.nodeid)
                for case in cases:
                    terminalreporter.line(str(case))
