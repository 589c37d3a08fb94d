"""The performance table: how soon, how fast, how big, measured on this host."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bakery import pool
from bakery.bake import bake
from bakery.bench.backups import backups
from bakery.bench.load import memory_and_size, request_rates
from bakery.bench.measure import Measure, print_json, print_table
from bakery.bench.replacement import replacements
from bakery.bench.start import bakes, machine_starts, unbaked
from bakery.deploy import destroy
from bakery.errors import InputError
from bakery.log import step
from bakery.manifest import Catalogue
from bakery.settings import Settings
from bakery.state import DeploymentFolder

__all__ = ["bench"]

_ROWS = {
    "a": ("Start of a machine, against a bare server", machine_starts),
    "b": ("The same without a baked image", unbaked),
    "c": ("Bakes", bakes),
    "d": ("Requests through the front door and past it", request_rates),
    "e": ("Idle memory and size", memory_and_size),
    "f": ("Replacement of the machine under its clients", replacements),
    "g": ("Backup and restore, against mysqldump and mysql", backups),
}


def bench(settings: Settings, *, rows: list[str], runs: int, as_json: bool) -> list[Measure]:
    """Measure the wished rows and print them; the deployment of the settings is made and removed.

    Raises:
        InputError: A row is unknown, `runs` is less than 1, or the deployment holds data.
        BakeryError: Something that was to be measured failed.
    """
    wrong = sorted(set(rows) - set(_ROWS))
    if wrong:
        raise InputError(f"unknown rows: {', '.join(wrong)}", hint=f"of {', '.join(_ROWS)}")
    if runs < 1:
        raise InputError("runs must be 1 or more")
    if DeploymentFolder(settings.state_dir, settings.name).load() is not None:
        raise InputError(
            f"there is a deployment called {settings.name}, and a benchmark would destroy it",
            hint=f"./inv destroy --name {settings.name} --with-data",
        )
    bake(settings)
    measures: list[Measure] = []
    with _images_as_before(settings):
        try:
            for row in sorted(set(rows)):
                title, take = _ROWS[row]
                with step(f"({row}) {title}"):
                    measures += take(settings, runs)
        finally:
            with step("Remove the benchmark's deployment"):
                destroy(settings, with_data=True)
    (print_json if as_json else print_table)(measures)
    return measures


@contextmanager
def _images_as_before(settings: Settings) -> Iterator[None]:
    """Remove the images that the measuring made: the newest one is what `deploy` takes."""
    state = settings.state_dir.absolute()
    # The pool is not kept open meanwhile: opening it waits for whoever has it open.
    with pool.opened(state) as disks:
        before = {one.id for one in Catalogue(state, disks).manifests()}
    try:
        yield
    finally:
        with pool.opened(state) as disks:
            catalogue = Catalogue(state, disks)
            for made in {one.id for one in catalogue.manifests()} - before:
                shutil.rmtree(catalogue.manifest_file(made).parent)
                catalogue.disk(made).unlink(missing_ok=True)
