"""Backups as files: a dump with its manifest beside it, and which of them are kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path  # noqa: TC003
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set

from mlflow_bakery_machine import dump
from mlflow_bakery_machine.files import MachineError, Rendered, write_file
from mlflow_bakery_machine.render import MLFLOW

SCHEMA = 1
DAILY, WEEKLY = 7, 4
_RECENT = timedelta(days=2)
_TIME = "%Y%m%dT%H%M%SZ"


class RefusedError(MachineError):
    """What was asked for cannot be done safely; nothing was touched."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a backup; its file is written last, so without it there is no backup."""

    name: str
    created: str
    """UTC, ISO 8601."""
    deployment: str
    mlflow: str
    mysql: str
    revision: str
    """Of the database schema."""
    artifacts: str
    """Where the files of its runs lie."""
    rows: Dict[str, int]
    sha256: str
    bytes: int
    sql_bytes: int
    kept: str = ""
    """Why it is never removed; empty when the rule decides."""

    @property
    def time(self) -> datetime:
        """When it was begun."""
        return datetime.strptime(self.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"


def name_at(deployment: str, moment: datetime) -> str:
    """Return a backup's name."""
    return "{}-{}".format(deployment, moment.strftime(_TIME))


def parse(data: Any) -> Manifest:
    """Read a manifest.

    Raises:
        RefusedError: It is of another schema, or lacks something.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise RefusedError("the manifest is not of schema {}".format(SCHEMA))
    values = {key: value for key, value in data.items() if key != "schema"}
    try:
        return Manifest(**values)
    except TypeError as fault:
        raise RefusedError("the manifest is not whole: {}".format(fault)) from None


def newest_first(manifests: Iterable[Manifest]) -> List[Manifest]:
    """Return them by time, the newest first."""
    return sorted(manifests, key=lambda one: one.created, reverse=True)


def retained(manifests: Sequence[Manifest], now: datetime) -> Set[str]:
    """Return the names of those to keep.

    All of the last two days, the newest of each of 7 days and of each of 4 weeks that have any,
    those kept for a reason, and always the newest.
    """
    ordered = newest_first(manifests)
    names = {one.name for one in ordered[:1]}
    names |= {one.name for one in ordered if one.kept or now - one.time < _RECENT}
    for form, number in (("%Y-%m-%d", DAILY), ("%G-%V", WEEKLY)):
        first: Dict[str, str] = {}
        for one in ordered:
            first.setdefault(one.time.strftime(form), one.name)
        names |= set(list(first.values())[:number])
    return names


@dataclass(frozen=True)
class Store:
    """The folder of backups on the data disk."""

    folder: Path

    def dump(self, name: str) -> Path:
        """Return the path of a backup's dump."""
        return self.folder / (name + ".sql.gz")

    def part(self, name: str) -> Path:
        """Return the path of a dump that is being made."""
        return self.folder / ("." + name + ".sql.gz.part")

    def manifest(self, name: str) -> Path:
        """Return the path of a backup's manifest."""
        return self.folder / (name + ".json")

    def load(self, name: str) -> Optional[Manifest]:
        """Return a backup that lies here; None when there is none of that name.

        Raises:
            RefusedError: Its manifest is damaged.
        """
        try:
            return parse(json.loads(self.manifest(name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except ValueError:
            raise RefusedError("the manifest of {} is damaged".format(name)) from None

    def all(self) -> List[Manifest]:
        """Return the backups here, the newest first; what cannot be read is left out."""
        found = []
        for path in self.folder.glob("[!.]*.json"):
            try:
                manifest = self.load(path.stem)
            except RefusedError:
                continue
            if manifest is not None and self.dump(manifest.name).exists():
                found.append(manifest)
        return newest_first(found)

    def save(self, manifest: Manifest) -> None:
        """Write a manifest: from then on the backup is one."""
        write_file(
            self.manifest(manifest.name),
            Rendered(manifest.text(), uid=MLFLOW, gid=MLFLOW, mode=0o600),
        )

    def remove(self, name: str) -> None:
        """Remove a backup, its manifest first."""
        for path in (self.manifest(name), self.dump(name)):
            if path.exists():
                path.unlink()

    def tidy(self) -> None:
        """Remove what a kill left: parts, and dumps without a manifest."""
        for path in self.folder.glob(".*.part"):
            path.unlink()
        for path in self.folder.glob("[!.]*.sql.gz"):
            if not self.manifest(path.name[: -len(".sql.gz")]).exists():
                path.unlink()

    def verify(self, manifest: Manifest) -> None:
        """Read a dump to its end and compare it with its manifest.

        Raises:
            RefusedError: It is missing, truncated or altered.
        """
        path = self.dump(manifest.name)
        if not path.exists():
            raise RefusedError("{} is missing".format(path.name))
        found = dump.measure(path)
        if found.size < manifest.bytes:
            raise RefusedError(
                "{} is truncated: {} of {} bytes".format(path.name, found.size, manifest.bytes)
            )
        if found.sha256 != manifest.sha256:
            raise RefusedError("{} was altered: its SHA-256 is another".format(path.name))
        try:
            size, end = dump.unpacked_end(path)
        except MachineError as fault:
            raise RefusedError(str(fault)) from None
        if size != manifest.sql_bytes or not dump.is_whole(end):
            raise RefusedError("{} does not end where the dump ended".format(path.name))
