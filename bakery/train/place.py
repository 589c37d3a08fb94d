"""Where a project runs: a virtual environment on this host, or a container at an engine."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakery import virtualenv
from bakery.env import client_variables
from bakery.log import step
from bakery.targets.base import Server, SshAccess
from bakery.train import engine as engines
from bakery.train import image as images
from bakery.train.order import Order
from bakery.train.project import Project, requirement_files

# What the entry reads, or what differs inside.
_NOT_IN_IMAGE = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_SERVER_CERT_PATH"}


@dataclass(frozen=True)
class Place:
    """What MLflow must be told of a place."""

    environment: Mapping[str, str]
    image: str = ""
    docker_args: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def prepared(
    order: Order, project: Project, server: Server, *, ours: SshAccess | None, cache: Path
) -> Iterator[Place]:
    """Give the place that an order names; `ours` is how we log in to a machine of ours there.

    Raises:
        InputError: Docker, the host, the image or a GPU is not there.
        BakeryError: It could not be prepared.
    """
    if order.where == "local":
        yield Place(_virtualenv(project, cache))
        return
    with engines.opened(order.where, ours) as engine:
        if order.gpus:
            engine.check_gpus()
        variables = client_variables(server, password=False)
        inside = {name: value for name, value in variables.items() if name not in _NOT_IN_IMAGE}
        inside["GIT_PYTHON_REFRESH"] = "quiet"  # pages of warnings where there is no git
        with step(f"Image: {project.image}, and what leads to {server.hostname}"):
            image = images.make(engine, project.image, inside, server.ca_file, cache=cache)
        container = f"mlflow-bakery-train-{secrets.token_hex(4)}"
        try:
            yield Place(
                {"DOCKER_HOST": engine.host}, image, docker_args(container, server, order.gpus)
            )
        finally:
            # Interrupted, the client has ended and the container may go on.
            engine.docker("rm", "--force", container, check=False)
            images.tidy(engine)


def docker_args(container: str, server: Server, gpus: str) -> dict[str, Any]:
    """Return what `docker run` is told, as MLflow takes it.

    The address is told too: what this host knows of the name, a container does not.
    """
    named = {"add-host": f"{server.hostname}:{server.address}"}
    found: dict[str, Any] = {"name": container, "interactive": True, "init": True, **named}
    return {**found, "gpus": gpus} if gpus else found


def _virtualenv(project: Project, cache: Path) -> dict[str, str]:
    files = requirement_files(project.folder, project.dependencies)
    programs = virtualenv.make(
        cache,
        "projects",
        files=files,
        packages=[one for one in project.dependencies if not one.startswith("-")],
        python=project.python,
        title=f"Install what {project.name} needs",
    )
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "VIRTUAL_ENV": str(programs.parent)}
