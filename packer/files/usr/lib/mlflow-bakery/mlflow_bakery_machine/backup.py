"""Making and listing backups."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from mlflow_bakery_machine import containers, dump
from mlflow_bakery_machine.catalogue import (
    Manifest,
    RefusedError,
    Store,
    name_at,
    newest_first,
    parse,
    retained,
)
from mlflow_bakery_machine.environment import Environment, read_environment
from mlflow_bakery_machine.files import MachineError, make_directory
from mlflow_bakery_machine.render import MLFLOW, artifacts_location

_PATIENCE = 300
"""Seconds to wait for another backup or restore to end."""
_DAY = timedelta(hours=20)


@dataclass(frozen=True)
class Places:
    """Where things lie."""

    data: Path = Path("/var/lib/mlflow-data")
    share: Path = Path("/usr/share/mlflow-bakery")
    lock: Path = Path("/run/mlflow-backup.lock")

    @property
    def store(self) -> Store:
        """The backups on the data disk, in a folder that the container for Blob may write to."""
        folder = self.data / "backups" / "store"
        make_directory(folder, uid=MLFLOW, gid=MLFLOW)
        return Store(folder)

    @property
    def environment(self) -> Environment:
        """The environment that counts.

        Raises:
            MachineError: The server was never started on this disk.
        """
        found = read_environment(self.data / "environment.json")
        if found is None:
            raise MachineError("the server was never started on this data disk")
        return found

    def share_json(self, name: str) -> Any:
        """Return what the image tells of itself in a file."""
        return json.loads((self.share / name).read_text(encoding="utf-8"))


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Keep two backups or restores apart.

    Raises:
        MachineError: Another one is still at work after some minutes.
    """
    with places.lock.open("a") as file:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise MachineError("another backup or restore is at work") from None
                time.sleep(0.2)
        yield


def make(places: Places, *, keep: str = "") -> Dict[str, Any]:
    """Make a backup while the server goes on, verify it and copy it to Blob.

    With `keep`, the reason, no rule ever removes it. The lock is held by the caller.

    Raises:
        MachineError: It could not be made or copied; then it does not count.
    """
    store, environment = places.store, places.environment
    store.tidy()
    begun = datetime.now(timezone.utc).replace(microsecond=0)
    name = name_at(environment.deployment, begun)
    if store.manifest(name).exists():
        raise MachineError("{} is being made, or was made this second".format(name))
    contents = _dump(store.part(name))
    written = dump.measure(store.part(name))
    manifest = Manifest(
        name=name,
        created=begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
        deployment=environment.deployment,
        mlflow=places.share_json("schema.json")["mlflow"],
        mysql=places.share_json("images.json")["mysql"]["version"],
        revision=contents.revision,
        artifacts=artifacts_location(environment),
        rows=contents.rows,
        sha256=written.sha256,
        bytes=written.size,
        sql_bytes=contents.size,
        kept=keep,
    )
    os.chown(str(store.part(name)), MLFLOW, MLFLOW)
    os.replace(str(store.part(name)), str(store.dump(name)))
    store.verify(manifest)
    store.save(manifest)
    # Left by a crash in a restore; the database that it made way for has just proven itself.
    shutil.rmtree(str(places.data / "mysql" / "data.replaced"), ignore_errors=True)
    _copy(store, environment.deployment, begun)
    return json.loads(manifest.text())  # type: ignore[no-any-return]


def daily(places: Places) -> Dict[str, Any]:
    """Make the backup of the day, or end the copying of one that a fault held up.

    Raises:
        MachineError: It could not be made or copied.
    """
    newest = places.store.all()[:1]
    now = datetime.now(timezone.utc).replace(microsecond=0)
    held_up = [one for one in newest if now - one.time < _DAY]
    if held_up and held_up[0].name not in {one.name for one in in_blob()}:
        _copy(places.store, places.environment.deployment, now)
        return json.loads(held_up[0].text())  # type: ignore[no-any-return]
    return make(places)


def _dump(path: Path) -> dump.Contents:
    process = subprocess.Popen(
        containers.dump_command(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        contents = dump.write(process.stdout, path)
    except BaseException:
        process.kill()
        path.unlink()
        raise
    said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.wait() != 0 or not contents.whole:
        path.unlink()
        raise MachineError("the database could not be dumped: {}".format(said or "it ends early"))
    if not contents.revision:
        path.unlink()
        raise MachineError("the database has no MLflow in it: the first start has not ended")
    return contents


def _copy(store: Store, deployment: str, now: datetime) -> None:
    """Copy to Blob what is not there yet, then remove what need not be kept, in both places."""
    here = store.all()
    there = in_blob()
    wanted = retained([one for one in here if one.deployment == deployment], now)
    known = {one.name for one in there}
    for one in here:
        if one.name in wanted and one.name not in known:
            containers.blob("put", one.name)
    ours = {one.name: one for one in [*there, *here] if one.deployment == deployment}
    kept = retained(list(ours.values()), now)
    for one in here:
        if one.name not in kept and one.deployment == deployment:
            store.remove(one.name)
    gone = [one.name for one in there if one.name not in kept and one.deployment == deployment]
    if gone:
        containers.blob("remove", *gone)


def in_blob() -> List[Manifest]:
    """Return the backups in Blob, the newest first; what cannot be read is left out.

    Raises:
        MachineError: Blob does not answer.
    """
    found = (_readable(data) for data in json.loads(containers.blob("list")))
    return newest_first(one for one in found if one is not None)


def _readable(data: Any) -> Optional[Manifest]:
    try:
        return parse(data)
    except RefusedError:
        return None


def list_all(places: Places) -> Dict[str, Any]:
    """Return every backup with the places where it lies, and why Blob could not be asked."""
    here, fault = places.store.all(), ""
    there: List[Manifest] = []
    try:
        there = in_blob()
    except MachineError as error:
        fault = str(error)
    lies: Dict[str, List[str]] = {}
    known: Dict[str, Manifest] = {}
    for place, manifests in (("data disk", here), ("Blob", there)):
        for one in manifests:
            known.setdefault(one.name, one)
            lies.setdefault(one.name, []).append(place)
    rows = [dict(json.loads(m.text()), places=lies[m.name]) for m in newest_first(known.values())]
    return {"backups": rows, "blob_error": fault}


def last(places: Places) -> Optional[Dict[str, Any]]:
    """Return the newest backup on the data disk, without asking Blob."""
    found = places.store.all()
    return json.loads(found[0].text()) if found else None
