"""A project as MLflow runs it: its MLproject file, read and judged before anything is made."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bakery.errors import InputError

_ENVIRONMENTS = ("python_env", "docker_env", "conda_env")
_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|CREDENTIAL|CONNECTION_STRING|_KEY\b", re.IGNORECASE)
# MLflow puts these into a line for bash, unquoted (mlflow#3381).
_HARMLESS = re.compile(r"[\w@%+=:,./-]*", re.ASCII)


@dataclass(frozen=True)
class Project:
    """What an MLproject file says."""

    folder: Path
    name: str
    image: str = ""
    """The container image that it runs in; empty for one with a Python environment."""
    python: str = ""
    """The version of Python that it wants, such as 3.12; empty: any."""
    dependencies: tuple[str, ...] = ()
    """As in a requirements file; `-r FILE` is relative to the folder."""
    entry_points: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """The parameters of each, and whether they must be given."""

    def check_call(self, entry_point: str, parameters: Mapping[str, str]) -> None:
        """Refuse an entry point that is not there, or parameters that do not suffice.

        Raises:
            InputError: Says which there are.
        """
        known = self.entry_points.get(entry_point)
        if known is None:
            raise InputError(
                f"{self.folder} has no entry point {entry_point}",
                hint=f"one of {', '.join(self.entry_points) or 'none'}",
            )
        missing = [name for name, needed in known.items() if needed and name not in parameters]
        if missing:
            raise InputError(
                f"{entry_point} of {self.name} needs {', '.join(missing)}",
                hint=f"--param {missing[0]}=VALUE",
            )


def read_project(folder: Path) -> Project:
    """Read a project's MLproject file and what it names.

    Raises:
        InputError: It cannot be read, cannot run, or would show a password; says why.
    """
    folder = folder.expanduser().absolute()
    place = _find(folder)
    values = _mapping(place)
    name = values.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", name):
        raise InputError(
            f"{place}: " + ("has no name" if name is None else f"the name {name!r} is no image's"),
            hint="name: my-project (lower case: MLflow names an image after it)",
        )
    chosen = [one for one in _ENVIRONMENTS if one in values]
    if chosen not in (["python_env"], ["docker_env"]):
        raise InputError(
            f"{place}: has {' and '.join(chosen) or 'no environment'}",
            hint="python_env: FILE for --where local, docker_env: {image: NAME} for a container",
        )
    found = Project(folder, name, entry_points=_entry_points(place, values))
    if chosen == ["docker_env"]:
        image = _image(place, values["docker_env"])
        return Project(found.folder, name, image=image, entry_points=found.entry_points)
    python, dependencies = _python(folder, str(values["python_env"]))
    return Project(
        folder, name, python=python, dependencies=dependencies, entry_points=found.entry_points
    )


def parse_parameters(given: Sequence[str]) -> dict[str, str]:
    """Return the parameters of `--param NAME=VALUE` options.

    Raises:
        InputError: One is not of that form, or comes twice.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            raise InputError(f"--param {one}: not NAME=VALUE", hint="such as --param epochs=20")
        if name in found:
            raise InputError(f"--param {name} is given twice", hint="give it once")
        found[name] = value
    return found


def _find(folder: Path) -> Path:
    # Any case, as MLflow has it.
    try:
        found = [path for path in folder.iterdir() if path.name.lower() == "mlproject"]
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", hint="name a folder") from None
    if not found:
        raise InputError(f"{folder} has no file MLproject", hint="see examples/wine")
    return found[0]


def _mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(
            f"{path}{line}: cannot be read as YAML", hint="see examples/wine"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no names with values", hint="see examples/wine")
    return values


def _entry_points(place: Path, values: Mapping[str, Any]) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    points = values.get("entry_points")
    for name, point in points.items() if isinstance(points, dict) else ():
        if not isinstance(point, dict) or not isinstance(point.get("command"), str):
            raise InputError(
                f"{place}: the entry point {name} has no command", hint="see examples/wine"
            )
        # A parameter is a type alone, or a mapping that may have a default.
        found[str(name)] = {
            str(key): not (isinstance(value, dict) and value.get("default") is not None)
            for key, value in (point.get("parameters") or {}).items()
        }
    if not found:
        raise InputError(f"{place}: has no entry_points", hint="see examples/wine")
    return found


def _image(place: Path, environment: object) -> str:
    values = environment if isinstance(environment, dict) else {}
    image = values.get("image")
    if not isinstance(image, str) or not image:
        raise InputError(f"{place}: docker_env has no image", hint="docker_env: {image: NAME:TAG}")
    if image.startswith("-") or not _HARMLESS.fullmatch(image):
        raise InputError(f"{place}: {image!r} is no name of an image", hint="such as NAME:TAG")
    for entry in values.get("environment") or []:
        name, value = entry if isinstance(entry, list) and len(entry) == 2 else (entry, "")
        if _SECRET.search(str(name)):
            raise InputError(
                f"{place}: docker_env.environment has {name}: MLflow would put it into a command"
                " line that everybody can read",
                hint="leave it out: train hands the login over by itself",
            )
        if not _HARMLESS.fullmatch(f"{name}{value}"):
            raise InputError(
                f"{place}: docker_env.environment: MLflow would hand {name} to a shell unquoted",
                hint="only letters, digits and @%+=:,./_- are safe there (mlflow#3381)",
            )
    for volume in values.get("volumes") or []:
        if not _HARMLESS.fullmatch(str(volume)):
            raise InputError(
                f"{place}: docker_env.volumes: {volume!r} is not safe in a shell",
                hint="only letters, digits and @%+=:,./_- are (mlflow#3381)",
            )
    return image


def _python(folder: Path, name: str) -> tuple[str, tuple[str, ...]]:
    place = folder / name
    values = _mapping(place)
    lists = [values.get(key) or [] for key in ("build_dependencies", "dependencies")]
    if not all(isinstance(one, list) for one in lists):
        raise InputError(f"{place}: dependencies must be a list", hint="see examples/wine")
    dependencies = tuple(str(one).strip() for found in lists for one in found)
    for file in requirement_files(folder, dependencies):
        try:
            file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}", hint=f"{place} names it") from None
    return str(values.get("python") or ""), dependencies


def requirement_files(folder: Path, dependencies: Sequence[str]) -> list[Path]:
    """Return the files that `-r FILE` entries among the dependencies name."""
    found = (re.fullmatch(r"(?:-r|--requirement)[ =](.+)", one) for one in dependencies)
    return [folder / one[1].strip() for one in found if one]
