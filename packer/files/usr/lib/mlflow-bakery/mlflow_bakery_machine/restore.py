"""Restoring: a backup is loaded into a MySQL of its own, and only a whole one takes its place.

What serves is not touched until the loaded data directory is complete and compared. Then the
directory is renamed to `data.restored`, which is the moment that counts: before it the old data
serves, after it the new, whatever ends this program (compose/mysql/entry.sh does the rest).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from mlflow_bakery_machine import backup, containers, dump
from mlflow_bakery_machine.catalogue import Manifest, RefusedError, Store, newest_first
from mlflow_bakery_machine.files import (
    MachineError,
    Rendered,
    empty_directory,
    make_directory,
    sync_directory,
    write_file,
)
from mlflow_bakery_machine.render import MLFLOW, MYSQL, artifacts_location

if TYPE_CHECKING:
    from mlflow_bakery_machine.backup import Places

LIVING = (
    "runs WHERE lifecycle_stage = 'active'",
    "experiments WHERE lifecycle_stage = 'active' AND experiment_id <> 0",
    "registered_models",
)
ANY = ("runs", "experiments WHERE experiment_id <> 0", "registered_models")

_MARGIN = 512 << 20
"""What an empty MySQL needs on the disk, in bytes, and some more."""


def fetch(places: Places, name: str, *, anew: bool) -> Dict[str, Any]:
    """Bring a backup to the data disk, verify it, and say what it would replace.

    With `anew` the copy in Blob replaces the one here.

    Raises:
        RefusedError: There is no such backup, it is damaged, or of a schema that is not known.
    """
    manifest = _bring(places.store, name, anew=anew)
    check_readable(manifest, places.share_json("schema.json"))
    places.store.verify(manifest)
    return {
        "manifest": json.loads(manifest.text()),
        "living": _number(LIVING),
        "artifacts": artifacts_location(places.environment),
    }


def check_readable(manifest: Manifest, target: Dict[str, Any]) -> None:
    """Refuse a backup whose schema this image's MLflow cannot read or upgrade.

    Raises:
        RefusedError: It is of a newer MLflow, or of something else.
    """
    if manifest.revision not in {target["revision"], *target["ancestors"]}:
        raise RefusedError(
            "{} is of MLflow {} (schema {}), which MLflow {} of this image does not know".format(
                manifest.name, manifest.mlflow, manifest.revision, target["mlflow"]
            )
        )


def _bring(store: Store, name: str, *, anew: bool) -> Manifest:
    if name == "newest":
        known = newest_first([*store.all(), *backup.in_blob()])
        if not known:
            raise RefusedError("there is no backup, neither here nor in Blob")
        name = known[0].name
    if not name.replace("-", "").isalnum():
        raise RefusedError("no backup is called {}".format(name))
    if anew or not store.manifest(name).exists():
        if name not in {one.name for one in backup.in_blob()}:
            raise RefusedError("no backup is called {}".format(name))
        containers.blob("get", name)
    found = store.load(name)
    if found is None:
        raise RefusedError("no backup is called {}".format(name))
    return found


def load(places: Places, name: str, *, drill: bool) -> Dict[str, Any]:
    """Load a verified backup into a MySQL without a network, and compare every table's rows.

    It is kept for `put_in_place`, or thrown away after a `drill`.

    Raises:
        RefusedError: There is no room for it.
        MachineError: It cannot be loaded, or what was loaded differs from the manifest.
    """
    manifest = places.store.load(name)
    if manifest is None:
        raise RefusedError("no backup is called {}".format(name))
    places.store.verify(manifest)
    scratch = _empty_scratch(places)
    _check_room(scratch, manifest)
    try:
        containers.start("scratch", containers.SCRATCH)
        _pour(places.store.dump(name))
        rows = _compare(manifest)
    except BaseException:
        _empty_scratch(places)
        raise
    if drill:
        _empty_scratch(places)
    else:
        containers.stop_in_order("scratch", containers.SCRATCH)
        os.sync()
        _write_loaded(scratch, manifest)
    return {"name": name, "rows": rows}


def _empty_scratch(places: Places) -> Path:
    containers.stop("scratch")
    scratch = places.data / "mysql" / "scratch"
    make_directory(scratch, uid=MYSQL, gid=MYSQL)
    empty_directory(scratch)
    return scratch


def _check_room(scratch: Path, manifest: Manifest) -> None:
    needed = 3 * manifest.sql_bytes + _MARGIN
    free = shutil.disk_usage(str(scratch)).free
    if free < needed:
        raise RefusedError(
            "the data disk has {} MiB free, loading {} needs {} MiB".format(
                free >> 20, manifest.name, needed >> 20
            )
        )


def _pour(path: Path) -> None:
    process = subprocess.Popen(
        containers.load_command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        for line in dump.read(path):
            process.stdin.write(line)
        process.stdin.close()
    except BrokenPipeError:
        pass  # MySQL refused a statement: it says which.
    said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.wait() != 0:
        raise MachineError("MySQL refused the dump: {}".format(said[-500:]))


def _compare(manifest: Manifest) -> Dict[str, int]:
    found = containers.count(containers.SCRATCH, containers.tables(containers.SCRATCH))
    names = sorted({*manifest.rows, *found})
    differing = [
        "{} {} instead of {}".format(name, found.get(name), manifest.rows.get(name))
        for name in names
        if found.get(name) != manifest.rows.get(name)
    ]
    if differing:
        raise MachineError("loaded, but the rows differ: {}".format(", ".join(differing)))
    return found


def _loaded(scratch: Path) -> Path:
    return scratch / "loaded.json"


def _write_loaded(scratch: Path, manifest: Manifest) -> None:
    write_file(_loaded(scratch), Rendered(manifest.text(), mode=0o600))


def put_in_place(places: Places, name: str, *, replace: bool) -> Dict[str, Any]:
    """Serve from what was loaded; what served until now is backed up first.

    It comes back when the server does not become ready with the new.

    Raises:
        RefusedError: There are runs and `replace` was not given; the server goes on as before.
        MachineError: It failed; the server goes on as before.
    """
    mysql = places.data / "mysql"
    manifest = _ready_to_place(mysql / "scratch", places, name)
    record = _read_record(places)
    if record is not None and record.get("phase") == "first":
        raise RefusedError("the first start has not ended: ./inv start, then again")
    _stop_server()
    try:
        before = _save_what_is_there(places, name, replace=replace)
        # From here on the restored data serves, even after a kill.
        os.rename(str(mysql / "scratch" / "data"), str(mysql / "data.restored"))
    except BaseException:
        # Its own failure must not hide the reason; it is tried again by systemd.
        subprocess.run(["systemctl", "start", "mlflow.service"], check=False)
        raise
    sync_directory(mysql)
    _write_record(places, {"phase": "done", "revision": manifest.revision})
    try:
        containers.must(["systemctl", "start", "mlflow.service"])
    except MachineError as fault:
        _bring_back(mysql, places, record)
        raise MachineError(
            "the server did not become ready with {}, the data before it serves again: {}".format(
                name, fault
            )
        ) from None
    shutil.rmtree(str(mysql / "data.replaced"), ignore_errors=True)
    empty_directory(mysql / "scratch")
    return {"name": name, "backup_before": before, "rows": manifest.rows}


def _ready_to_place(scratch: Path, places: Places, name: str) -> Manifest:
    manifest = places.store.load(name)
    path = _loaded(scratch)
    loaded = path.read_text(encoding="utf-8") if path.exists() else ""
    if manifest is None or loaded != manifest.text():
        raise MachineError("{} is not loaded: load it first".format(name))
    return manifest


def _save_what_is_there(places: Places, name: str, *, replace: bool) -> str:
    """Back up what is about to be replaced, with nobody writing any more; return its name."""
    containers.start("mysql", containers.SERVING)
    try:
        living = _number(LIVING)
        if living and not replace:
            raise RefusedError(holds_runs(living))
        if not _number(ANY):
            return ""
        made = backup.make(places, keep="before the restore of {}".format(name))
        return str(made["name"])
    finally:
        containers.must([*containers.COMPOSE, "stop", "mysql"])


def _number(wishes: Sequence[str]) -> int:
    return sum(containers.count(containers.SERVING, wishes).values())


def holds_runs(living: int) -> str:
    """Say that a database is not empty."""
    return "the database has {} runs, experiments or models".format(living)


def _stop_server() -> None:
    """Stop the server, however far it had come: its files are about to be moved."""
    containers.must(["systemctl", "stop", "mlflow.service"])
    containers.stop_what_runs()


def _bring_back(mysql: Path, places: Places, record: Optional[Dict[str, Any]]) -> None:
    _stop_server()
    if (mysql / "data.restored").exists():
        shutil.rmtree(str(mysql / "data.restored"))
    if (mysql / "data.replaced").exists():
        os.rename(str(mysql / "data"), str(mysql / "scratch" / "data"))
        os.rename(str(mysql / "data.replaced"), str(mysql / "data"))
        sync_directory(mysql)
    if record is not None:
        _write_record(places, record)
    containers.must(["systemctl", "start", "mlflow.service"])
    _empty_scratch(places)


def _record(places: Places) -> Path:
    return places.data / "state" / "migration.json"


def _read_record(places: Places) -> Optional[Dict[str, Any]]:
    path = _record(places)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write_record(places: Places, record: Dict[str, Any]) -> None:
    text = json.dumps(record)
    write_file(_record(places), Rendered(text, uid=MLFLOW, gid=MLFLOW, mode=0o600))
