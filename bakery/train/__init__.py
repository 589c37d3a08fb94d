"""Training: a project runs here or in a container, and logs into the deployment's server."""

import json
import os
import tempfile
from pathlib import Path

from bakery import targets, virtualenv
from bakery.env import client_variables
from bakery.errors import BakeryError, InputError
from bakery.log import note
from bakery.pins import IMAGES
from bakery.run import stream
from bakery.settings import Settings
from bakery.targets.base import Server, SshAccess
from bakery.train import door, place
from bakery.train.order import Order
from bakery.train.place import Place
from bakery.train.project import Project, parse_parameters

__all__ = ["Order", "parse_parameters", "train"]

_REQUIREMENTS = IMAGES / "train" / "requirements.txt"
_LAUNCH = Path(__file__).with_name("launch.py")
_NOT_PASSED_ON = ("BAKERY_", "MLFLOW_")


def train(settings: Settings, order: Order) -> str:
    """Run a project against the deployment's server and return the link to its run.

    Raises:
        InputError: The project, the server, the login, Docker or a GPU is not as it must be;
            nothing was made.
        BakeryError: The training failed; the link to its run is in the hint.
    """
    project = order.checked()
    server, ours = _server(settings, order)
    server = door.checked(settings, server)
    cache = settings.state_dir.absolute() / "cache"
    with place.prepared(order, project, server, ours=ours, cache=cache) as where:
        tools = virtualenv.make(cache, "train", files=[_REQUIREMENTS], title="Install MLflow")
        note(f"{project.name} trains; its run appears at {server.url}")
        return _run(tools / "python", order, project, server, where)


def _server(settings: Settings, order: Order) -> tuple[Server, SshAccess | None]:
    """Return the server, and how we log in where the order says if that is our own machine."""
    target = targets.seen(settings)
    server, training, current = target.server(), target.training, target.deployment.generation
    if current is None or not target.running(current):
        raise InputError(f"{server.name} is stopped", hint="./inv start")
    if not training.image or order.where != training.docker_host:
        return server, None
    if not training.running():
        raise InputError("the training machine is stopped", hint="./inv start")
    return server, training.access


def _run(python: Path, order: Order, project: Project, server: Server, where: Place) -> str:
    with tempfile.TemporaryDirectory(prefix="bakery-train-") as folder:
        result = Path(folder) / "run.json"
        code = stream(
            [python, _LAUNCH, result],
            env=_environment(server, where),
            stdin=json.dumps(
                {
                    "project": str(project.folder),
                    "entry_point": order.entry_point,
                    "parameters": dict(order.parameters),
                    "experiment": order.experiment or project.name,
                    "image": where.image,
                    "docker_args": dict(where.docker_args),
                }
            ),
        )
        link = _link(server, result)
    if code != 0:
        raise BakeryError(f"{project.name}: the training failed", hint=link and f"see {link}")
    return link


def _link(server: Server, result: Path) -> str:
    if not result.exists():
        return ""
    made = json.loads(result.read_text(encoding="utf-8"))
    return f"{server.url}/#/experiments/{made['experiment']}/runs/{made['run']}"


def _environment(server: Server, where: Place) -> dict[str, str]:
    """Return the caller's environment, which a project may need, with our server in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_PASSED_ON)}
    past = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    near = ",".join(filter(None, (past, server.hostname)))
    return {
        **kept,
        **client_variables(server, password=True),
        "GIT_PYTHON_REFRESH": "quiet",
        "NO_PROXY": near,
        "no_proxy": near,
        **where.environment,
    }
