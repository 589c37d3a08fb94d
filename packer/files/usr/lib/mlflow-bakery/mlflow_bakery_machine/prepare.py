"""Before the containers start: choose the environment, keep it, render what they read."""

from __future__ import annotations

import argparse
import json
import secrets
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from mlflow_bakery_machine.environment import (
    Environment,
    choose_environment,
    read_environment,
)
from mlflow_bakery_machine.files import (
    MachineError,
    Rendered,
    empty_directory,
    make_directory,
    write_file,
)
from mlflow_bakery_machine.render import MLFLOW, MYSQL, TRAEFIK, compose_variables, render

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Places:
    """Where things lie; tests put them elsewhere."""

    environment: Path = Path("/etc/mlflow-bakery/environment.json")
    share: Path = Path("/usr/share/mlflow-bakery")
    run: Path = Path("/run/mlflow-bakery")
    data: Path = Path("/var/lib/mlflow-data")
    spool: Path = Path("/var/lib/mlflow-spool")
    own: Path = Path("/var/lib/mlflow-bakery")
    """What this machine remembers; the next generation does not."""

    @property
    def admitted(self) -> Path:
        """The mark that clients are let in: also after a reboot."""
        return self.own / "admitted"


def prepare(places: Places, *, running: bool = False) -> Environment:
    """Make everything that the containers mount, and return the environment that counts.

    When they are `running`, what they use stays: the mark of the migration, uploads under way.

    Raises:
        MachineError: There is no usable environment.
    """
    kept_path = places.data / "environment.json"
    kept = read_environment(kept_path)
    environment = choose_environment(read_environment(places.environment), kept)
    _make_directories(places)
    _make_data_directories(places)
    if not running:
        # The mark of the last start's migration, and uploads that a kill cut off.
        empty_directory(places.run / "migration")
        empty_directory(places.spool)
    if kept is None or kept.text != environment.text:
        write_file(kept_path, Rendered(environment.text, mode=0o600))
    files = render(
        environment,
        mysql_password=mysql_password(environment, places.data / "secrets" / "mysql-password"),
        images=json.loads((places.share / "images.json").read_text(encoding="utf-8")),
        traefik_static=(places.share / "compose/traefik/traefik.yaml").read_text(encoding="utf-8"),
        admitted=places.admitted.exists(),
    )
    for name, file in files.items():
        write_file(places.run / name, file)
    return environment


def prepare_standby(places: Places) -> None:
    """Make what MLflow's container needs to start importing while the data disk is awaited.

    Raises:
        MachineError: There is no usable environment.
    """
    environment = choose_environment(read_environment(places.environment), None)
    _make_directories(places)
    empty_directory(places.run / "migration")
    images = json.loads((places.share / "images.json").read_text(encoding="utf-8"))
    write_file(places.run / "compose.env", Rendered(compose_variables(environment, images)))


def mysql_password(environment: Environment, path: Path) -> str:
    """Return the password of MySQL's account: the given one, else one made once and kept."""
    if environment.mysql_password:
        return environment.mysql_password
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        password = "".join(secrets.choice(_ALPHABET) for _ in range(40))
        write_file(path, Rendered(password, mode=0o600))
        return password


def _make_directories(places: Places) -> None:
    make_directory(places.run)
    make_directory(places.run / "mysql", uid=MYSQL, gid=MYSQL, mode=0o500)
    make_directory(places.run / "mlflow", uid=MLFLOW, gid=MLFLOW, mode=0o500)
    make_directory(places.run / "migration", uid=MLFLOW, gid=MLFLOW)
    make_directory(places.run / "traefik", uid=TRAEFIK, gid=TRAEFIK, mode=0o500)
    make_directory(places.run / "traefik/dynamic", uid=TRAEFIK, gid=TRAEFIK, mode=0o500)
    make_directory(places.spool, uid=MLFLOW, gid=MLFLOW)
    make_directory(places.own)


def _make_data_directories(places: Places) -> None:
    make_directory(places.data / "mysql", uid=MYSQL, gid=MYSQL)
    make_directory(places.data / "mysql/scratch", uid=MYSQL, gid=MYSQL)
    make_directory(places.data / "acme", uid=TRAEFIK, gid=TRAEFIK)
    make_directory(places.data / "state", uid=MLFLOW, gid=MLFLOW)
    make_directory(places.data / "secrets")
    make_directory(places.data / "backups")
    make_directory(places.data / "backups/store", uid=MLFLOW, gid=MLFLOW)


def main(arguments: Optional[List[str]] = None) -> int:
    """Prepare the start of the containers; the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    defaults = Places()
    for name in ("environment", "share", "run", "data", "spool", "own"):
        parser.add_argument("--" + name, type=Path, default=getattr(defaults, name))
    parser.add_argument("--running", action="store_true", help="the containers run: disturb none")
    options = vars(parser.parse_args(arguments))
    running = options.pop("running")
    try:
        environment = prepare(Places(**options), running=running)
    except MachineError as error:
        print("mlflow-bakery: {}".format(error), file=sys.stderr)
        return 1
    print("prepared {} (serial {})".format(environment.deployment, environment.serial))
    return 0
