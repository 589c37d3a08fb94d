"""Deletes for good what MLflow only marked as deleted; run by `./inv gc`.

MLflow's own `gc` goes through the server and stops at the first run without artifacts. Here each
run, model and experiment is taken by itself, its artifacts straight from Blob, and what cannot be
deleted is reported and left as it was. A kill leaves each of them either whole, or without
artifacts and still marked, so that the next call goes on.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STORAGE = Path("/run/secrets/storage")
CHECKS = "bakery-check"
"""The experiment of the checks: what lies in its bin is nobody's, however new it is."""
_NOTHING_THERE = "No such file or directory"


class KeptError(Exception):
    """Something must not be deleted; says why."""


@dataclass(frozen=True)
class Thing:
    """A run, a model or an experiment that is marked as deleted."""

    kind: str
    id: str
    name: str
    experiment: str
    location: str
    """The address of its artifacts."""
    why: str = ""
    """Why it was not deleted."""


@dataclass(frozen=True)
class Version:
    """A version in the model registry, and where its files are."""

    name: str
    places: tuple[str, ...]


def path_in_blob(thing: Thing) -> str:
    """Return where in the container the artifacts of a run or a model are.

    Raises:
        KeptError: They are elsewhere, or in a place that is not theirs alone.
    """
    parts = urlsplit(thing.location)
    if parts.scheme != "mlflow-artifacts":
        raise KeptError(f"its artifacts are not in this server's store: {thing.location}")
    path = parts.path.strip("/")
    if thing.id not in path.split("/"):
        raise KeptError(f"its artifacts have no folder of their own: {thing.location}")
    return path


def check_unused(thing: Thing, versions: Iterable[Version]) -> None:
    """Refuse to delete what a registered model is made of.

    Raises:
        KeptError: Names the model.
    """
    own = re.compile(
        rf"(?:{re.escape(thing.location)}|(?:runs|models):/{re.escape(thing.id)})(?:/.*)?"
    )
    for version in versions:
        if any(own.fullmatch(place) for place in version.places):
            raise KeptError(f"{version.name} is made of it")


@dataclass
class Purge:
    """One pass over all that is marked."""

    erase: Callable[[str], None]
    """Delete all below a path in Blob, of which there may be nothing."""
    forget: Callable[[Thing], None]
    """Delete the rows of a thing."""
    versions: Sequence[Version]
    failures: tuple[type[Exception], ...]
    dry_run: bool = False

    def take(self, thing: Thing) -> Thing:
        """Delete one run or model, and return it with the reason if it could not be deleted."""
        try:
            check_unused(thing, self.versions)
            path = path_in_blob(thing)
            if not self.dry_run:
                self.erase(path)
                self.forget(thing)
        except self._reasons as reason:
            return replace(thing, why=_line(reason))
        return thing

    @property
    def _reasons(self) -> tuple[type[Exception], ...]:
        return (KeptError, *self.failures)

    def take_experiment(self, thing: Thing, inside: Iterable[Thing]) -> Thing:
        """Delete an experiment when nothing is left in it."""
        left = [one for one in inside if one.experiment == thing.id and one.why]
        if left:
            return replace(thing, why=f"its {left[0].kind} {left[0].id} is kept")
        try:
            # Only the folder that MLflow gave it: one that somebody chose may hold more.
            own = urlsplit(thing.location).path.strip("/") == thing.id
            if not self.dry_run:
                if own and thing.location.startswith("mlflow-artifacts:"):
                    self.erase(thing.id)
                self.forget(thing)
        except self.failures as reason:
            return replace(thing, why=_line(reason))
        return thing

    def run(self, runs_and_models: Iterable[Thing], experiments: Iterable[Thing]) -> list[Thing]:
        """Take everything, one after the other."""
        taken = [self.take(thing) for thing in runs_and_models]
        return taken + [self.take_experiment(thing, taken) for thing in experiments]


def _line(reason: Exception) -> str:
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0]


class Database:
    """What MLflow's database says, by MLflow's own classes."""

    def __init__(self, uri: str) -> None:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

        self._registry = Registry(uri)
        self._tracking = Tracking(uri, "mlflow-artifacts:/")

    def versions(self) -> list[Version]:
        """Return every version in the model registry."""
        from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
        from mlflow.store.model_registry.dbmodels.models import SqlModelVersion as Row

        with self._registry.ManagedSessionMaker() as session:
            rows = session.query(Row).filter(Row.current_stage != STAGE_DELETED_INTERNAL)
            return [
                Version(
                    f"{row.name} version {row.version}",
                    tuple(place for place in (row.source, row.storage_location) if place),
                )
                for row in rows
            ]

    def experiments(self, before: int) -> list[Thing]:
        """Return the experiments in the bin that were put there before a time in milliseconds."""
        from mlflow.store.tracking.dbmodels.models import SqlExperiment as Row

        with self._tracking.ManagedSessionMaker() as session:
            rows = session.query(Row).filter(Row.lifecycle_stage == "deleted")
            return [
                Thing("experiment", str(one), row.name, str(one), row.artifact_location)
                for row in rows
                for one in [row.experiment_id]
                if row.name == CHECKS or (row.last_update_time or 0) <= before
            ]

    def runs(self, before: int, experiments: Sequence[Thing]) -> list[Thing]:
        """Return the runs marked before a time, and all of some experiments."""
        from mlflow.store.tracking.dbmodels.models import SqlRun as Row

        old = (Row.lifecycle_stage == "deleted") & (Row.deleted_time <= before)
        found = self._rows(Row, old, experiments)
        return [
            Thing("run", row.run_uuid, row.name or "", str(row.experiment_id), row.artifact_uri)
            for row in found
        ]

    def models(self, before: int, experiments: Sequence[Thing]) -> list[Thing]:
        """Return the logged models marked before a time, and all of some experiments."""
        from mlflow.store.tracking.dbmodels.models import SqlLoggedModel as Row

        old = (Row.lifecycle_stage == "deleted") & (Row.last_updated_timestamp_ms <= before)
        found = self._rows(Row, old, experiments)
        return [
            Thing("model", row.model_id, row.name, str(row.experiment_id), row.artifact_location)
            for row in found
        ]

    def forget(self, thing: Thing) -> None:
        """Delete the rows of a thing and all that hangs on them."""
        {
            "run": self._tracking._hard_delete_run,
            "model": self._tracking._hard_delete_logged_model,
            "experiment": self._tracking._hard_delete_experiment,
        }[thing.kind](thing.id)

    def _rows(self, row: Any, old: Any, experiments: Sequence[Thing]) -> list[Any]:
        inside = row.experiment_id.in_([int(one.id) for one in experiments])
        with self._tracking.ManagedSessionMaker() as session:
            found = session.query(row).filter(old | inside).all()
            session.expunge_all()
            return list(found)


def eraser(artifacts: str) -> Callable[[str], None]:
    """Return what deletes all below a path of the store at an address such as wasbs://…/."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository

    def erase(path: str) -> None:
        try:
            AzureBlobArtifactRepository(f"{artifacts.rstrip('/')}/{path}").delete_artifacts()
        except MlflowException as error:
            if _NOTHING_THERE not in str(error):
                raise

    return erase


def main(arguments: Sequence[str] | None = None) -> int:
    """Delete what is old enough and print what became of each; the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--older-than", type=int, default=0, help="in milliseconds")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)

    from azure.core.exceptions import AzureError
    from entry import storage_variables
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    os.environ.update(storage_variables(STORAGE.read_text(encoding="utf-8")))
    database = Database(os.environ["MLFLOW_BACKEND_STORE_URI"])
    before = int(time.time() * 1000) - options.older_than
    experiments = database.experiments(before)
    checks = [one for one in experiments if one.name == CHECKS]
    purge = Purge(
        erase=eraser(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]),
        forget=database.forget,
        versions=database.versions(),
        failures=(AzureError, MlflowException, SQLAlchemyError),
        dry_run=options.dry_run,
    )
    found = [*database.runs(before, experiments), *database.models(before, experiments)]
    # The experiment of the checks itself stays in the bin: the next check takes it out.
    taken = purge.run(found, [one for one in experiments if one not in checks])
    print(json.dumps([asdict(thing) for thing in taken]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
