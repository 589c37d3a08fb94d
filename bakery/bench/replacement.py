"""How long a replacement takes a server away from its clients, against a restart in its place."""

import time

from bakery import checks, ssh
from bakery.bake import bake
from bakery.bench import clients
from bakery.bench.measure import Measure, ratio
from bakery.deploy import deploy
from bakery.env import client_variables
from bakery.errors import BakeryError
from bakery.settings import Settings
from bakery.targets.base import Server

_COMPOSE = "docker compose --file /usr/share/mlflow-bakery/compose/compose.yaml"
_RESTART = f"""
set -e
{_COMPOSE} --env-file /run/mlflow-bakery/compose.env stop mlflow mysql
{_COMPOSE} --env-file /run/mlflow-bakery/compose.env start mysql mlflow
"""


def replacements(settings: Settings, runs: int) -> list[Measure]:
    """Row (f): downtime as a client sees it, without retries and with MLflow's default ones."""
    image = bake(settings).id
    server = deploy(settings, image=image)
    cache = settings.state_dir.absolute() / "cache"
    alone, away, longest, whole = [], [], [], []
    for _ in range(runs):
        with clients.asking(server) as found:
            _restart(server, settings.ready_seconds)
        alone.append(found.seconds)
        variables = client_variables(server, password=True)
        started = time.monotonic()
        with clients.asking(server) as found, clients.logging(variables, cache) as client:
            started = time.monotonic()
            server = deploy(settings, image=image, replace=True)
            whole.append(time.monotonic() - started)
        away.append(found.seconds)
        longest.append(client.seconds)
    beside = Measure("f", "MySQL and MLflow alone, stopped and started in place", alone, "s")
    probe = Measure("f", "replacement: away, for a client without retries", away, "s")
    return [
        beside,
        probe,
        Measure("f", "replacement: longest call of MLflow's client, no error", longest, "s"),
        Measure("f", "replacement: all of deploy --replace", whole, "s"),
        ratio("f", "replacement : restart in place", probe, beside, "at most 1.5"),
    ]


def _restart(server: Server, seconds: float) -> None:
    done = ssh.command(server.login, ["sudo", "sh", "-s"], stdin=_RESTART, timeout=180)
    if done.returncode != 0:
        raise BakeryError("MySQL and MLflow could not be restarted", tail=done.stderr.strip())
    checks.wait_ready(server.as_client, deadline=seconds)
