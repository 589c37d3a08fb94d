"""What is asked of a training, judged before anything is made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bakery.errors import InputError
from bakery.render import PROJECT
from bakery.train.engine import parse_ssh
from bakery.train.project import Project, read_project

_EXAMPLE = PROJECT / "examples" / "wine"
# MLflow puts it into a line for bash, unquoted.
_GPUS = re.compile(r"all|[1-9][0-9]*|device=[A-Za-z0-9-]+")
_EXPERIMENT = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Order:
    """What to train, and where."""

    where: str = "local"
    """local, docker or ssh://USER@HOST."""
    project: Path | None = None
    """None: the example."""
    entry_point: str = "main"
    parameters: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""
    """Empty: the project's name."""
    gpus: str = ""
    """all, a number, or device=ID; empty: none."""

    @property
    def folder(self) -> Path:
        """The project's folder."""
        if self.project is not None:
            return self.project
        return _EXAMPLE if self.where == "local" else _EXAMPLE / "docker"

    def checked(self) -> Project:
        """Return the project, if it can be run there as it is asked for.

        Raises:
            InputError: It cannot; says why.
        """
        if self.where not in {"local", "docker"}:
            parse_ssh(self.where)
        self._check_words()
        project = read_project(self.folder)
        if self.where == "local" and project.image:
            raise InputError(f"{project.folder} is for a container", hint="--where docker")
        if self.where != "local" and not project.image:
            raise InputError(
                f"{project.folder} is for a Python environment, not for a container",
                hint="--where local, or docker_env: {image: NAME} in its MLproject",
            )
        project.check_call(self.entry_point, self.parameters)
        return project

    def _check_words(self) -> None:
        if self.gpus and self.where == "local":
            raise InputError(
                "--gpus is for containers: a training on this host sees what this host has",
                hint="--where docker --gpus all",
            )
        if self.gpus and not _GPUS.fullmatch(self.gpus):
            raise InputError(f"--gpus {self.gpus}: not known", hint="all, a number, or device=ID")
        if self.experiment and not _EXPERIMENT.fullmatch(self.experiment):
            raise InputError(
                "--experiment has a control character in it", hint="choose another name"
            )
