"""The image that a project trains in: the project's own, and what leads to the server."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bakery import store
from bakery.errors import BakeryError, InputError
from bakery.log import step
from bakery.train.engine import Engine

LABEL = "mlflow-bakery.train"
NAME = "mlflow-bakery-train"
_ENTER = Path(__file__).with_name("enter.sh")
_INSIDE = "/mlflow-bakery"
_PULL_SECONDS = 3600


def make(
    engine: Engine, image: str, variables: Mapping[str, str], ca_file: Path | None, *, cache: Path
) -> str:
    """Return an image like the one given that knows the server, made at the engine.

    None of `variables` may be secret: they are in the image.

    Raises:
        InputError: The engine does not have the image, and cannot get it.
        BakeryError: It could not be made.
    """
    entrypoint = _fetched(engine, image, cache)
    inside = dict(variables)
    with tempfile.TemporaryDirectory(prefix="bakery-image-") as name:
        context = Path(name)
        shutil.copyfile(_ENTER, context / "enter")
        if ca_file is not None:
            # A volume would be one of the engine's host, which may be another.
            shutil.copyfile(ca_file, context / "ca.pem")
            inside["MLFLOW_TRACKING_SERVER_CERT_PATH"] = f"{_INSIDE}/ca.pem"
        text = dockerfile(image, inside, entrypoint)
        (context / "Dockerfile").write_text(text, encoding="utf-8")
        # Named, or it would seem to be left over to a training that ends meanwhile.
        made = f"{NAME}:{store.tree_digest([context], base=context)[7:19]}"
        engine.docker("build", "--quiet", "--force-rm", "--tag", made, context)
    return made


def dockerfile(image: str, variables: Mapping[str, str], entrypoint: list[str]) -> str:
    """Return how the image is made; what started in it before starts after the login is read."""
    lines = [f"FROM {image}", f'LABEL {LABEL}="yes"', f"COPY . {_INSIDE}/"]
    lines += [f"ENV {name}={json.dumps(value)}" for name, value in variables.items()]
    words = ["/bin/sh", f"{_INSIDE}/enter", *entrypoint]
    return "\n".join([*lines, f"ENTRYPOINT {json.dumps(words)}", ""])


def tidy(engine: Engine) -> None:
    """Remove what earlier trainings left at the engine and later ones have replaced."""
    engine.docker("image", "prune", "--force", "--filter", f"label={LABEL}", check=False)


def _fetched(engine: Engine, image: str, cache: Path) -> list[str]:
    """Let the engine have an image, and return its entry point."""
    words = ("image", "inspect", "--format", "{{json .Config.Entrypoint}}", image)
    found = engine.docker(*words, check=False)
    if found is None:
        _get(engine, image, cache)
        found = engine.docker(*words)
    return json.loads(found or "null") or []


def _get(engine: Engine, image: str, cache: Path) -> None:
    archive = archive_of(cache, image)
    if archive is not None:
        with step(f"Load {image} into Docker at {engine.where}"):
            engine.docker("load", "--quiet", "--input", archive)
        return
    with step(f"Pull {image}"):
        try:
            engine.docker("pull", "--quiet", image, timeout=_PULL_SECONDS)
        except BakeryError as error:
            raise InputError(
                f"Docker at {engine.where} does not have {image} and cannot pull it",
                hint="build it there, or name another in MLproject",
            ) from error


def archive_of(cache: Path, image: str) -> Path | None:
    """Return the newest archive of one of our own images; None for another's."""
    found = [
        facts.with_name("image.tar")
        for facts in cache.glob("containers/*/image.json")
        if json.loads(facts.read_text(encoding="utf-8")).get("reference") == image
    ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
