"""MLflow 3.16.0, whose schema is another, is upgraded to the current one and back, really.

In a state folder of its own, in which an image of 3.16.0 is baked from a lock of its own: nobody
else's deploy finds it, and no other bake is in its way.
"""

import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bakery import pool
from bakery.manifest import Catalogue
from tests.e2e.bakery import Bakery, crash, inside, reached, until
from tests.e2e.test_replace import SHARE, mounted, remove

LOCK = Path(__file__).parent / "mlflow-3.16.0" / "requirements.txt"
UPGRADING = "grep -qs upgrade /var/lib/mlflow-data/state/migration.json"
# Starts the store of 3.16.0 on the database that serves, as its server would.
OPEN = """
import os
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
print("opened")
"""


@pytest.fixture(scope="module")
def place(state: Path, image: str) -> Path:
    """A state folder with the base and the current image of the tests' own."""
    folder = state.absolute() / "older"
    folder.mkdir(exist_ok=True)
    if not (folder / "cache").is_symlink():
        (folder / "cache").symlink_to("../cache")
    with pool.opened(state.absolute()) as ours, pool.opened(folder) as theirs:
        shutil.rmtree(theirs / "images", ignore_errors=True)
        shutil.rmtree(folder / "images", ignore_errors=True)
        for file in [*(ours / "bases").rglob("*"), ours / "images" / f"{image}.raw"]:
            copy = theirs / file.relative_to(ours)
            if file.is_file() and not copy.exists():
                pool.copy(file, copy)
        Catalogue(folder, theirs).add(Catalogue(state.absolute(), ours).recorded(image))
    return folder


@pytest.fixture(scope="module")
def older(place: Path, image: str) -> str:
    """The id of an image with MLflow 3.16.0."""
    baker = Bakery(place, "unused", {"BAKERY_MLFLOW_LOCK": str(LOCK)})
    made = json.loads(baker.ok("bake", "--base", "debian-13", "--json", timeout=1500).out)
    assert made["id"] != image
    versions = {one["name"]: one["version"] for one in made["containers"]}
    assert versions["mlflow"] == "3.16.0"
    return str(made["id"])


@pytest.fixture(scope="module")
def deployed(place: Path, older: str) -> Iterator[Bakery]:
    made = Bakery(place, "upgraded")
    try:
        made.ok("deploy", "--image", older)
        yield made
    finally:
        made.destroy()


@contextmanager
def altered(place: Path, image: str, root: Path) -> Iterator[str]:
    """Give an image whose migration is the real one, and dies before it has noted its last step."""
    name = f"{image}-bad"

    def change(root: Path) -> None:
        migrate = root / SHARE / "compose/mlflow/migrate.py"
        call = "            upgrade()\n"
        assert call in migrate.read_text()
        half = "UPDATE alembic_version SET version_num = 'halfway'"
        end = f'            cursor.execute("{half}")\n            sys.exit("ended on purpose")\n'
        migrate.write_text(migrate.read_text().replace(call, call + end))

    with pool.opened(place) as disks:
        catalogue = Catalogue(place, disks)
        pool.copy(catalogue.disk(image), catalogue.disk(name))
        mounted(catalogue.disk(name), root, change)
        good = catalogue.recorded(image)
        catalogue.add(good.model_copy(update={"id": name, "bake_key": name}))
    try:
        yield name
    finally:
        remove(place, name)


def post(bakery: Bakery, path: str, **body: Any) -> dict[str, Any]:
    done = bakery.api(path, "POST", json=body)
    assert done.status_code == 200, done.text
    return dict(done.json())


def log(bakery: Bakery, name: str) -> str:
    """Log a run with all that one can have: metrics, parameters, an artifact, a model of it."""
    experiment = post(bakery, "experiments/create", name=name)["experiment_id"]
    made = post(bakery, "runs/create", experiment_id=experiment, run_name=name, start_time=1)
    run = str(made["run"]["info"]["run_id"])
    post(bakery, "runs/log-parameter", run_id=run, key="lr", value="0.1")
    post(bakery, "runs/log-metric", run_id=run, key="loss", value=0.25, timestamp=1, step=0)
    with bakery.session() as client:
        file = bakery.artifact(f"{experiment}/{run}/artifacts/model/MLmodel")
        assert client.put(file, data=b"flavors: {}\n", timeout=60).status_code == 200
    post(bakery, "registered-models/create", name=name)
    source = f"mlflow-artifacts:/{experiment}/{run}/artifacts/model"
    post(bakery, "model-versions/create", name=name, source=source, run_id=run)
    return run


def whole(bakery: Bakery, name: str, run: str) -> bool:
    """Return whether a run is there; then all of it must be."""
    done = bakery.api(f"runs/get?run_id={run}")
    if done.status_code == 404:
        return False
    found = done.json()["run"]
    assert found["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert [one["value"] for one in found["data"]["metrics"]] == [0.25]
    version = bakery.api(f"model-versions/get?name={name}&version=1").json()["model_version"]
    assert version["run_id"] == run
    experiment = found["info"]["experiment_id"]
    with bakery.session() as client:
        file = bakery.artifact(f"{experiment}/{run}/artifacts/model/MLmodel")
        assert client.get(file, timeout=60).content == b"flavors: {}\n"
    return True


def mlflow(bakery: Bakery) -> str:
    with bakery.session() as client:
        return client.get(f"https://{bakery.facts['hostname']}/version", timeout=30).text


@pytest.fixture(scope="module")
def old_run(deployed: Bakery) -> str:
    """A run that MLflow 3.16.0 logged."""
    assert mlflow(deployed) == "3.16.0"
    return log(deployed, "old")


@pytest.fixture(scope="module")
def old_backup(deployed: Bakery, old_run: str) -> dict[str, Any]:
    """A backup that was made by the machine with MLflow 3.16.0."""
    return dict(json.loads(deployed.ok("backup", "--json").out))


def backups(bakery: Bakery) -> list[dict[str, Any]]:
    return list(json.loads(bakery.ok("backup", "--list", "--json").out))


def test_an_upgrade_that_fails_is_taken_back_by_itself(
    deployed: Bakery, place: Path, image: str, old_run: str, tmp_path: Path
) -> None:
    with altered(place, image, tmp_path) as bad:
        deployed.extra = {"BAKERY_READY_SECONDS": "60"}
        done = deployed.run("deploy", "--image", bad)
        deployed.extra = {}
        assert done.code == 1, done.said
        assert "ended on purpose" in done.said or "was cut off" in done.said, "its log is shown"
        assert "serves again" in done.said
    assert mlflow(deployed) == "3.16.0"
    assert deployed.status()["state"] == "ready"
    assert whole(deployed, "old", old_run)
    deployed.tables_are_whole()


def test_a_machine_that_crashes_in_the_migration_is_no_loss(
    deployed: Bakery, image: str, old_run: str
) -> None:
    process = deployed.start("deploy", "--image", image)
    try:
        until(lambda: reached(deployed, UPGRADING), seconds=300, what="the schema is upgraded")
        crash(deployed)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=300)
    deployed.ok("start")
    assert mlflow(deployed) == "3.16.0"
    assert whole(deployed, "old", old_run)
    deployed.tables_are_whole()


def test_an_upgrade_keeps_everything(
    deployed: Bakery, image: str, old_run: str, old_backup: dict[str, Any]
) -> None:
    before = deployed.facts["generation"]
    done = deployed.ok("deploy", "--image", image)
    assert "Backup: the schema goes from" in done.err
    after = deployed.facts["generation"]
    assert before["revision"] != after["revision"]
    assert mlflow(deployed) == after["mlflow"] != "3.16.0"
    assert whole(deployed, "old", old_run)
    made = {one["kept"]: one for one in backups(deployed)}
    assert made[f"before the upgrade to MLflow {after['mlflow']}"]["rows"]["runs"] == 1
    deployed.tables_are_whole()


def test_the_older_mlflow_refuses_the_newer_schema(deployed: Bakery, place: Path) -> None:
    """What the rest of this file is about: without a way back there, none has to be made here."""
    archive = next(
        path.with_name("image.tar")
        for path in place.glob("cache/containers/mlflow-*/image.json")
        if json.loads(path.read_text())["version"] == "3.16.0"
    )
    put_archive(deployed, archive)
    command = (
        "MLFLOW_IMAGE=mlflow-bakery/mlflow:3.16.0 docker compose"
        " --file /usr/share/mlflow-bakery/compose/compose.yaml"
        " --env-file /run/mlflow-bakery/compose.env"
        f" run --rm --no-deps --no-TTY --entrypoint python3 migrate -c {shlex.quote(OPEN)}"
    )
    refused = inside(deployed, f"sh -c {shlex.quote(command)}")
    assert refused.returncode != 0
    assert "opened" not in refused.stdout
    assert "out-of-date database schema" in refused.stderr
    current = command.replace("MLFLOW_IMAGE=mlflow-bakery/mlflow:3.16.0 ", "")
    opened = inside(deployed, f"sh -c {shlex.quote(current)}")
    assert "opened" in opened.stdout, "the control: the current one opens it"


def put_archive(bakery: Bakery, archive: Path) -> None:
    """Load a container image into the machine."""
    put = bakery.start("ssh", "--command", "sudo docker load --quiet", stdin=archive)
    _out, err = put.communicate(timeout=300)
    assert put.returncode == 0, err


def test_a_backup_of_the_older_schema_is_restored_and_upgraded(
    deployed: Bakery, old_run: str, old_backup: dict[str, Any]
) -> None:
    new_run = log(deployed, "new")
    assert old_backup["mlflow"] == "3.16.0"
    done = json.loads(deployed.ok("restore", old_backup["name"], "--replace-data", "--json").out)
    assert whole(deployed, "old", old_run)
    assert not whole(deployed, "new", new_run)
    deployed.tables_are_whole()
    deployed.ok("restore", done["backup_before"], "--replace-data")
    assert whole(deployed, "old", old_run)
    assert whole(deployed, "new", new_run)


def test_the_way_back_costs_what_is_newer_and_keeps_a_backup_of_it(
    deployed: Bakery, old_run: str
) -> None:
    new_run = log(deployed, "newest")
    refused = deployed.refused("rollback")
    assert "--discard-newer" in refused.err
    assert mlflow(deployed) != "3.16.0"
    deployed.ok("rollback", "--discard-newer")
    assert mlflow(deployed) == "3.16.0"
    assert whole(deployed, "old", old_run)
    assert not whole(deployed, "newest", new_run)
    kept = [one for one in backups(deployed) if one["kept"] and one["mlflow"] != "3.16.0"]
    assert max(one["rows"]["runs"] for one in kept) >= 3, "what was discarded is in a backup"
    deployed.tables_are_whole()
