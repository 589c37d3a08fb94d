"""A machine is replaced: by a good image, by bad ones, and by a tool that is killed on its way."""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bakery import pool
from bakery.bench.clients import logging
from bakery.disk import attached, root_partition
from bakery.errors import BakeryError
from bakery.manifest import Catalogue
from bakery.settings import Settings
from bakery.targets import local
from tests.e2e.bakery import Bakery, until
from tests.e2e.clients import Probe

READY_SECONDS = "20"
"""Of a bad image; on a machine with nothing else to do a good one takes five."""
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


def never_starts(root: Path) -> None:
    """Have an MLflow that stands by like a good one, and crashes once it has its database."""
    entry = root / SHARE / "compose/mlflow/entry.py"
    text = entry.read_text()
    assert text.count("    mlflow.cli.cli(") == 1
    crash = "    raise SystemExit('crash')\n"
    entry.write_text(text.replace("    mlflow.cli.cli(", f"{crash}    mlflow.cli.cli("))


def migration_fails(root: Path) -> None:
    """Be of a newer MLflow whose migration breaks off half way."""
    newer_schema(root, "raise RefusedError('the migration failed half way')")


def never_boots(root: Path) -> None:
    init = root / "usr/lib/systemd/systemd"
    init.unlink()
    init.write_text("#!/bin/sh\nexit 1\n")
    init.chmod(0o755)


def migrates_then_never_ready(root: Path) -> None:
    """Be of a newer MLflow whose migration works and whose server does not."""
    never_starts(root)
    newer_schema(root, "")


def newer_schema(root: Path, then: str) -> None:
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
    migrate.write_text(
        text.replace(call, f'    connect().cursor().execute("{move}")\n    {then}\n')
    )


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


def test_only_the_check_is_let_in_before_the_server_is(deployed: Bakery) -> None:
    ready = "experiments/search?max_results=1"
    secrets = json.loads((deployed.folder / "secrets.json").read_text())
    deployed.ssh("/usr/lib/mlflow-bakery/duty close")
    (answer,) = until(  # in a tuple: a refusing answer counts as false
        lambda: (shut,) if (shut := deployed.api(ready)).status_code == 503 else None,
        seconds=10, what="nobody is let in",
    )  # fmt: skip
    assert answer.headers["Retry-After"] == "5"
    for token, code in ((secrets["check_token"], 200), ("another", 503)):
        assert deployed.api(ready, headers={"X-Bakery-Check": token}).status_code == code
    assert deployed.status()["state"] == "not ready"
    deployed.ok("start")
    assert deployed.api(ready).status_code == 200


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
        (migration_fails, "the data disk is as it was before"),
        (migrates_then_never_ready, "the data disk is as it was before"),
    ],
)
def test_a_bad_image_gives_way_to_the_old_generation(
    deployed: Bakery, altered: Alter, change: Callable[[Path], None], said: str
) -> None:
    bad, kept, before = altered(change), log(deployed), deployed.status()
    deployed.extra = {"BAKERY_READY_SECONDS": READY_SECONDS}
    with Probe(deployed) as probe:
        done = deployed.run("deploy", "--image", bad)
    deployed.extra = {}
    assert done.code == 1, done.said
    assert said in done.said, done.said
    assert f"generation {before['generation']} serves again" in done.said, done.said
    assert probe.missing() == []
    if change in {never_boots, never_ready}:
        assert set(probe.answers) == {"200"}, "the old one has never stopped"
    converged(deployed, kept)
    after = deployed.status()
    assert (after["generation"], after["image"]) == (before["generation"], before["image"])
    event = last(deployed)
    assert event["image"] == bad
    assert str(event["outcome"]).startswith("undone: ")
    assert event["generation"] == deployed.facts["last_number"]


def test_clients_see_no_error_while_the_server_is_replaced(
    deployed: Bakery, image: str, state: Path, record_property: Callable[[str, object], None]
) -> None:
    """Neither forth nor back, and nothing that they were told is gone."""
    cache = state.absolute() / "cache"
    with Probe(deployed) as probe, logging(deployed.client(), cache) as client:
        deployed.ok("deploy", "--image", image, "--replace")
        deployed.ok("rollback")
    assert client.logged > 50
    assert probe.missing() == []
    assert len(probe.told) > 50
    assert probe.answers["503"] > 0
    assert probe.without_retry_after == 0
    # Told to come again, or that nobody listens: nothing hangs, nobody is refused for good. And
    # Traefik listens a moment before it has read its certificate; clients try that again, too.
    others = set(probe.answers) - {"200", "502", "503", "ConnectionError", "SSLError"}
    assert others == set(), probe.answers
    said = f"longest call {client.seconds:.1f} s, away {probe.away:.1f} s, {probe.answers}"
    record_property("case", said)
    converged(deployed)


def test_a_machine_that_reboots_admits_whom_it_admitted(deployed: Bakery) -> None:
    kept, before = log(deployed), deployed.ssh("cat /proc/sys/kernel/random/boot_id")
    deployed.run("ssh", "--command", "sudo systemctl reboot")
    until(lambda: deployed.status()["state"] == "ready", seconds=120, what="ready by itself")
    # nspawn machines share the host's boot id; their systemd is another.
    del before
    converged(deployed, kept)


def test_after_a_crash_of_the_host_start_serves_again(deployed: Bakery) -> None:
    kept, number = log(deployed), deployed.status()["generation"]
    pid = (deployed.folder / "machines" / str(number) / "supervisor.pid").read_text().split()[0]
    os.kill(int(pid), signal.SIGKILL)
    network = deployed.facts["network"]["name"]
    subprocess.run(["ip", "link", "delete", network], check=True)
    until(lambda: deployed.status()["state"] == "stopped", seconds=30, what="stopped")
    deployed.ok("start")
    converged(deployed, kept)


def test_a_machine_that_does_not_stop_is_killed(deployed: Bakery, image: str) -> None:
    """Also: who comes in between is told whose the deployment is."""
    kept = log(deployed)
    deployed.ssh("chmod -x /usr/lib/mlflow-bakery/duty")
    with Probe(deployed) as probe:
        process = deployed.start("deploy", "--image", image, "--replace")
        until(lambda: deployed.facts["pending"], seconds=60, what="the first step")
        other = deployed.run("rollback")
        assert process.poll() is None
        assert other.code == 1
        assert f"{deployed.name} is being worked on by root@" in other.err
        assert f"process {process.pid}, since 20" in other.err
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "does not stop serving, it is killed" in said
    assert probe.missing() == []
    converged(deployed, kept)


def test_rollback_past_a_migration_takes_the_data_of_before(deployed: Bakery, image: str) -> None:
    """The generation before is made one of an older schema by its record."""
    early = log(deployed)
    path = deployed.folder / "deployment.json"
    facts = json.loads(path.read_text())
    revision, facts["generation"]["revision"] = facts["generation"]["revision"], "0" * 12
    path.write_text(json.dumps(facts))
    deployed.ok("deploy", "--image", image, "--replace")
    late = log(deployed)
    run = deployed.api("runs/create", "POST", json={"experiment_id": "0", "start_time": 1})
    assert run.status_code == 200, run.text
    before = path.read_bytes()
    refused = deployed.refused("rollback").err
    assert "MLflow has no way back, and 1 run is newer" in refused
    assert path.read_bytes() == before
    converged(deployed, early, late)
    done = deployed.ok("rollback", "--discard-newer")
    converged(deployed, early)
    assert not there(deployed, late)
    backups = json.loads(deployed.ok("backup", "--list", "--json").out)
    kept = [one for one in backups if one["kept"] == "before a rollback"]
    assert [one["places"] for one in kept] == [["Blob"]], backups
    assert kept[0]["name"] in done.err
    assert kept[0]["revision"] == revision
