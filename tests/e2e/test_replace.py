"""A machine is replaced: by a good image, by bad ones, and by a tool that is killed on its way."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest

from bakery import pool
from bakery.disk import attached, root_partition
from bakery.errors import BakeryError
from bakery.manifest import Catalogue
from bakery.settings import Settings
from bakery.state import Step
from bakery.targets import local
from tests.e2e.bakery import Bakery

STEPS = list(get_args(Step))
SHARE = "usr/share/mlflow-bakery"
Alter = Callable[[Callable[[Path], None]], str]


@pytest.fixture(scope="module")
def altered(state: Path, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alter]:
    """Make images that differ from the real one in their files; all go at the end."""
    with ExitStack() as stack:

        def alter(change: Callable[[Path], None]) -> str:
            with pool.opened(state.absolute()) as disks:
                catalogue = Catalogue(state.absolute(), disks)
                there = next(one for one in catalogue.images() if one.id == image)
                name = f"{image}-{uuid.uuid4().hex[:6]}"
                stack.callback(remove, state, name)
                pool.copy(catalogue.disk(image), catalogue.disk(name))
                mounted(catalogue.disk(name), tmp_path_factory.mktemp("root"), change)
                # Never the newest, and of no bake key: nobody else's deploy takes it.
                made = there.model_copy(
                    update={
                        "id": name,
                        "bake_key": name,
                        "created": there.created.replace(year=2000),
                    }
                )
                catalogue.add(made)
                return name

        yield alter


def remove(state: Path, image: str) -> None:
    with pool.opened(state.absolute()) as disks:
        catalogue = Catalogue(state.absolute(), disks)
        catalogue.disk(image).unlink(missing_ok=True)
        catalogue.manifest_file(image).unlink(missing_ok=True)
        catalogue.manifest_file(image).parent.rmdir()


def mounted(disk: Path, root: Path, change: Callable[[Path], None]) -> None:
    with attached(disk, root_partition(disk)) as device:
        subprocess.run(["mount", device, root], check=True)
        try:
            change(root)
        finally:
            subprocess.run(["umount", root], check=True)


def never_ready(root: Path) -> None:
    (root / SHARE / "compose/mlflow/entry.py").write_text("raise SystemExit('broken on purpose')\n")


def never_boots(root: Path) -> None:
    init = root / "usr/lib/systemd/systemd"
    init.unlink()
    init.write_text("#!/bin/sh\nexit 1\n")
    init.chmod(0o755)


def migrates_then_never_ready(root: Path) -> None:
    """Be of a newer MLflow whose migration works and whose server does not."""
    never_ready(root)
    schema = root / SHARE / "schema.json"
    known = json.loads(schema.read_text())
    newer = {
        "mlflow": "99.0.0",
        "revision": "feedfeedfeed",
        "ancestors": [*known["ancestors"], known["revision"]],
    }
    schema.write_text(json.dumps(newer))
    migrate = root / SHARE / "compose/mlflow/migrate.py"
    text = migrate.read_text()
    call = (
        '    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", URI], check=True)\n'
    )
    assert call in text
    move = "UPDATE alembic_version SET version_num = 'feedfeedfeed'"
    migrate.write_text(text.replace(call, f'connect().cursor().execute("{move}")'))


@pytest.fixture(scope="module")
def deployed(make_bakery: Callable[..., Bakery], image: str) -> Bakery:
    made = make_bakery()
    made.ok("deploy", "--image", image)
    return made


def log(bakery: Bakery) -> str:
    """Make an experiment and return its name."""
    name = f"experiment {uuid.uuid4().hex[:8]}"
    made = bakery.api("experiments/create", "POST", json={"name": name})
    assert made.status_code == 200, made.text
    return name


def there(bakery: Bakery, name: str) -> bool:
    return bakery.api(f"experiments/get-by-name?experiment_name={name}").status_code == 200


def machines(bakery: Bakery) -> list[int]:
    return sorted(int(path.name) for path in (bakery.folder / "machines").iterdir())


def converged(bakery: Bakery, *experiments: str) -> None:
    """One machine serves, nothing is pending, only what is kept is there, no run is gone."""
    status = bakery.status()
    assert (status["state"], status["pending"]) == ("ready", None), status
    kept = {status["generation"], status["previous"]} - {None}
    assert machines(bakery) == sorted(kept)
    alive = [
        number
        for number in machines(bakery)
        if (bakery.folder / "machines" / str(number) / "supervisor.pid").exists()
    ]
    assert alive == [status["generation"]]
    assert all(there(bakery, name) for name in experiments)


def last(bakery: Bakery) -> dict[str, object]:
    return dict(json.loads(bakery.ok("history", "--json").out)[-1])


def test_nothing_to_go_back_to(deployed: Bakery) -> None:
    before = deployed.facts
    assert "no generation to go back to" in deployed.refused("rollback").err
    assert deployed.facts == before


def test_rollback_keeps_the_runs(deployed: Bakery, image: str) -> None:
    early = log(deployed)
    deployed.ok("deploy", "--image", image, "--replace")
    late = log(deployed)
    number = deployed.status()["generation"]
    assert deployed.status()["previous"] == number - 1
    converged(deployed, early, late)
    deployed.ok("rollback")
    assert deployed.status()["generation"] == number - 1
    converged(deployed, early, late)
    assert (last(deployed)["action"], last(deployed)["outcome"]) == ("rollback", "serving")
    assert "no generation to go back to" in deployed.refused("rollback").err
    deployed.ok("deploy", "--image", image, "--replace")
    assert deployed.status()["generation"] == number + 1, "no number is used twice"


def test_a_second_machine_on_the_data_disk_is_refused(deployed: Bakery, state: Path) -> None:
    settings = Settings(name=deployed.name, state_dir=state)
    with local.opened(settings) as target:
        kept = target.deployment.previous
        assert kept is not None
        target.create(kept)
        with pytest.raises(BakeryError, match="in use by another machine"):
            target.attach(kept)
        target.retire(kept)
    converged(deployed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (never_boots, "while it booted"),
        (never_ready, "MLflow does not start: broken on purpose"),
        (migrates_then_never_ready, "data disk is as it was before"),
    ],
)
def test_a_bad_image_gives_way_to_the_old_generation(
    deployed: Bakery, altered: Alter, change: Callable[[Path], None], said: str
) -> None:
    bad, kept, before = altered(change), log(deployed), deployed.status()
    deployed.extra = {"BAKERY_READY_SECONDS": "45"}
    done = deployed.run("deploy", "--image", bad)
    deployed.extra = {}
    assert done.code == 1, done.said
    assert said in done.said
    assert f"generation {before['generation']} serves again" in done.said
    converged(deployed, kept)
    after = deployed.status()
    assert (after["generation"], after["image"]) == (before["generation"], before["image"])
    event = last(deployed)
    assert event["image"] == bad
    assert str(event["outcome"]).startswith("undone: ")
    assert event["generation"] == deployed.facts["last_number"]


def kill_at(bakery: Bakery, step: str, *words: str) -> None:
    """Start a verb and kill it as soon as its state says that a step has begun."""
    process = bakery.start(*words)
    facts = bakery.folder / "deployment.json"

    def reached() -> bool:
        pending = json.loads(facts.read_text())["pending"]
        # Some steps are over in a moment: then the one after it.
        return bool(pending) and STEPS.index(pending["step"]) >= STEPS.index(step)

    try:
        deadline = time.monotonic() + 240
        while not reached():
            assert process.poll() is None, f"{words} ended before the step {step}"
            assert time.monotonic() < deadline, f"{words} never came to the step {step}"
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=60)


@pytest.mark.parametrize("step", ["create", "quiesce", "snapshot", "activate", "admit"])
def test_a_replacement_killed_at_a_step_converges(deployed: Bakery, image: str, step: str) -> None:
    kept = log(deployed)
    kill_at(deployed, step, "deploy", "--image", image, "--replace")
    deployed.ok("deploy", "--image", image)
    converged(deployed, kept)


def test_a_rollback_killed_while_it_boots_converges(deployed: Bakery, image: str) -> None:
    kept = log(deployed)
    deployed.ok("deploy", "--image", image, "--replace")
    kill_at(deployed, "activate", "rollback")
    deployed.ok("start")
    converged(deployed, kept)


def test_an_undo_that_is_killed_is_gone_on_with(deployed: Bakery, altered: Alter) -> None:
    kept, before = log(deployed), deployed.status()["generation"]
    deployed.extra = {"BAKERY_READY_SECONDS": "45"}
    kill_at(deployed, "undo", "deploy", "--image", altered(migrates_then_never_ready))
    deployed.extra = {}
    assert "undo" in str(deployed.status()["pending"])
    deployed.ok("start")
    converged(deployed, kept)
    assert deployed.status()["generation"] == before


def test_rollback_to_another_schema_is_refused(deployed: Bakery, image: str) -> None:
    deployed.ok("deploy", "--image", image, "--replace")
    path = deployed.folder / "deployment.json"
    facts = json.loads(path.read_text())
    facts["previous"]["revision"] = "0" * 12
    path.write_text(json.dumps(facts))
    refused = deployed.refused("rollback").err
    assert "MLflow has no way back" in refused
    assert json.loads(path.read_text()) == facts
    converged(deployed)
