"""How long it takes until a server serves, baked and unbaked, and how long a bake takes."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bakery.bake import bake
from bakery.bench import bare
from bakery.bench.measure import Measure, ratio
from bakery.deploy import deploy, destroy, start, stop
from bakery.errors import BakeryError
from bakery.log import timings
from bakery.manifest import Manifest
from bakery.render import PROJECT
from bakery.run import run
from bakery.settings import Settings

_READY = ("Data disk and address", "Ready")
_FIRST = ("Generation", *_READY)
_AGAIN = ("Start generation", "Ready")
_INSTALL = ("Boot the bake's machine", "provision 10", "provision 20", "provision 30")
_LOAD = ("provision 40",)
_PROJECT_PARTS = ("bakery", "cloud-init", "compose", "images", "packer", "tasks.py", "bakery.toml")


def machine_starts(settings: Settings, runs: int) -> list[Measure]:
    """Row (a): from power-on to the first answer, beside a bare server of the same version."""
    manifest = bake(settings)
    first, again = _baked_starts(settings, manifest, runs)
    place = bare.full_client(settings.state_dir.absolute() / "cache", _version(manifest))
    same = [bare.seconds_to_ready(place, bare.OURS) for _ in range(runs)]
    plain = [bare.seconds_to_ready(place, {}) for _ in range(runs)]
    beside = Measure("a", "bare mlflow server on SQLite, our workers, no jobs", same, "s")
    return [
        first,
        again,
        beside,
        Measure("a", "bare mlflow server on SQLite, its defaults", plain, "s"),
        ratio("a", "machine, first boot : bare server", first, beside, "at most 2"),
        ratio("a", "machine, first boot : boot with data", first, again, "at most 1.2"),
        ratio("a", "machine, with data : bare server", again, beside, "at most 2"),
    ]


def unbaked(settings: Settings, runs: int) -> list[Measure]:
    """Row (b): what a server costs that is installed when it is created, as a sum of its parts."""
    manifest = bake(settings, force=True)
    install = _sum(manifest.timings, _INSTALL)
    load = _sum(manifest.timings, _LOAD)
    build = [bare.pip_install(_version(manifest)) for _ in range(runs)]
    first, ups = [], []
    for _ in range(runs):
        destroy(settings, with_data=True)
        steps = _steps(lambda: deploy(settings, image=manifest.id))
        first.append(_sum(steps, _FIRST))
        ups.append(_sum(steps, _READY))
    sums = [install + load + seconds + up for seconds, up in zip(build, ups, strict=True)]
    whole = Measure("b", "unbaked: sum of these four", sums, "s")
    baked = Measure("b", "baked: first boot to ready", first, "s")
    return [
        Measure("b", "boot of the plain base, Docker and files installed", [install], "s"),
        Measure("b", "images of MySQL and Traefik loaded (in place of pulled)", [load], "s"),
        Measure("b", "pip install of the MLflow image, on this host", build, "s"),
        Measure("b", "compose up to ready, on an empty database", ups, "s"),
        whole,
        baked,
        ratio("b", "unbaked : baked", whole, baked, "at least 5"),
    ]


def bakes(settings: Settings, runs: int) -> list[Measure]:
    """Row (c): a bake from nothing (once), of the same again, and after a changed compose file."""
    state = settings.state_dir.absolute()
    with tempfile.TemporaryDirectory(dir=state, prefix="bench-") as folder:
        empty = settings.model_copy(update={"state_dir": Path(folder)})
        nothing = _timed(lambda: bake(empty))
    bake(settings)
    same = [_timed(lambda: bake(settings)) for _ in range(runs)]
    changed = [_changed_bake(state, number) for number in range(runs)]
    return [
        Measure("c", "bake from nothing", [nothing], "s"),
        Measure("c", "bake again, nothing changed", same, "s", "under 2"),
        Measure("c", "bake after a changed compose file", changed, "s"),
    ]


def _baked_starts(settings: Settings, manifest: Manifest, runs: int) -> tuple[Measure, Measure]:
    first, again = [], []
    for _ in range(runs):
        destroy(settings, with_data=True)
        first.append(_sum(_steps(lambda: deploy(settings, image=manifest.id)), _FIRST))
        stop(settings)
        again.append(_sum(_steps(lambda: start(settings)), _AGAIN))
    return (
        Measure("a", "machine, first boot (empty data disk) to ready", first, "s"),
        Measure("a", "machine, boot with data to ready", again, "s"),
    )


def _steps(action: Callable[[], object]) -> list[tuple[str, float]]:
    """Return the steps of an action and their seconds."""
    before = len(timings())
    action()
    return timings(before)


def _sum(steps: list[tuple[str, float]], titles: tuple[str, ...]) -> float:
    """Return the seconds of the steps whose titles begin so; each must be there."""
    for title in titles:
        if not any(name.startswith(title) for name, _ in steps):
            raise BakeryError(f"no step {title!r} was timed, so nothing can be said")
    return sum(seconds for name, seconds in steps if name.startswith(titles))


def _timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _changed_bake(state: Path, number: int) -> float:
    """Bake from a copy of the project whose compose file has another comment."""
    with tempfile.TemporaryDirectory(prefix="bakery-bench-") as folder:
        for part in _PROJECT_PARTS:
            source, target = PROJECT / part, Path(folder) / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, target)
        compose = Path(folder) / "compose" / "compose.yaml"
        with compose.open("a", encoding="utf-8") as file:
            file.write(f"# run {number} of a benchmark at {time.time()}\n")
        ours = {key: value for key, value in os.environ.items() if key.startswith("BAKERY_")}
        words = [sys.executable, "-m", "invoke", "bake"]
        env = ours | {"BAKERY_STATE_DIR": str(state)}
        return _timed(lambda: run(words, cwd=Path(folder), env=env))


def _version(manifest: Manifest) -> str:
    return next(one.version for one in manifest.containers if one.name == "mlflow")
