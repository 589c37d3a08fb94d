"""Virtual environments from locks, made once by uv and kept in the cache."""

import sys
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from bakery import store
from bakery.errors import InputError
from bakery.log import step
from bakery.run import run

_HINT = "the packages come from the configured package index; is it reachable?"


def make(
    cache: Path,
    name: str,
    *,
    files: Sequence[Path] = (),
    packages: Sequence[str] = (),
    python: str = "",
    title: str = "",
) -> Path:
    """Return the folder of an environment's programs, its `bin`.

    It is made anew when a requirements file or the Python changes; `files` in which every package
    has its hashes are installed with no others. With a `title` the making is a step of that name.

    Raises:
        InputError: That Python is not here.
        BakeryError: The packages could not be installed.
    """
    interpreter = find_python(python)
    decides = [str(interpreter), sys.version, *packages]
    decides += [store.file_digest(path) for path in files]
    place = cache / name / store.digest(decides)[7:23]
    if not place.is_dir() and title:
        with step(title):
            return make(cache, name, files=files, packages=packages, python=python)
    store.build(place, lambda part: _install(part, interpreter, files, packages))
    return place / "venv" / "bin"


def find_python(version: str) -> Path:
    """Return the interpreter of a version such as 3.12; empty: the one that runs this.

    Raises:
        InputError: It is not installed.
    """
    if not version:
        return Path(sys.executable)
    words = [find_uv_bin(), "python", "find", "--no-project", "--no-python-downloads", version]
    done = run(words, check=False)
    if done.returncode != 0:
        raise InputError(f"there is no Python {version} here", hint=f"install Python {version}")
    return Path(done.stdout.strip())


def _install(part: Path, interpreter: Path, files: Sequence[Path], packages: Sequence[str]) -> None:
    tool, venv = find_uv_bin(), part / "venv"
    # Relocatable: it is renamed when it is whole, and its scripts must still find their Python.
    words: list[str | Path] = [tool, "venv", "--quiet", "--no-project", "--relocatable"]
    run([*words, "--python", interpreter, venv])
    locked = not packages and all("--hash=" in path.read_text("utf-8") for path in files)
    if not files and not packages:
        return
    options = [word for path in files for word in ("--requirement", path)]
    words = [tool, "pip", "install", "--quiet", *(["--require-hashes"] if locked else [])]
    words += ["--python", venv / "bin" / "python", *options, *packages]
    run(words, hint=_HINT, timeout=1800)
