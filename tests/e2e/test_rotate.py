"""Logins and keys change while the server serves, and what was changed stays changed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
import requests
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
from requests.auth import HTTPBasicAuth

from tests.e2e.bakery import INVOKE, PROJECT, Bakery, until
from tests.e2e.matrix import chosen, write_report

READY = "/api/2.0/mlflow/experiments/search?max_results=1"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/rotation/file"


@pytest.fixture(scope="module")
def deployed(make_bakery: Callable[..., Bakery], image: str) -> Bakery:
    made = make_bakery()
    made.ok("deploy", "--image", image)
    return made


def logs_in(bakery: Bakery, name: str, password: str) -> int:
    client = bakery.client()
    return requests.get(
        client["MLFLOW_TRACKING_URI"] + READY,
        # Text would go as Latin-1.
        auth=HTTPBasicAuth(name.encode(), password.encode()),
        verify=client["MLFLOW_TRACKING_SERVER_CERT_PATH"],
        timeout=30,
    ).status_code


def password(bakery: Bakery) -> str:
    return bakery.client()["MLFLOW_TRACKING_PASSWORD"]


def secrets(bakery: Bakery) -> dict[str, object]:
    return dict(json.loads((bakery.folder / "secrets.json").read_text()))


def started(bakery: Bakery) -> str:
    """Return when each container was started."""
    names = " ".join(f"mlflow-{one}-1" for one in ("mysql", "mlflow", "traefik"))
    return bakery.ssh("docker inspect --format {{.State.StartedAt}} " + names)


def given(bakery: Bakery, text: str, *words: str) -> None:
    done = subprocess.run(
        [*INVOKE, *words], env=bakery.environment, cwd=PROJECT, input=text, text=True,
        capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def opens_the_store(bakery: Bakery, key: object) -> bool:
    """Return whether Azurite takes a key."""
    facts = bakery.facts
    gateway = facts["network"]["subnet"].split("/")[0].rpartition(".")
    endpoint = f"http://{gateway[0]}.{int(gateway[2]) + 1}:10000/{facts['storage_account']}"
    credential = AzureNamedKeyCredential(facts["storage_account"], str(key))
    with BlobServiceClient(account_url=endpoint, credential=credential) as service:
        try:
            service.get_container_client(facts["storage_container"]).get_container_properties()
        except HttpResponseError as error:
            if error.status_code != 403:
                raise
            return False
    return True


def stores(bakery: Bakery) -> bytes:
    """Send a file through the server to the store and fetch it back."""
    client = bakery.client()
    common = {
        "auth": (client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]),
        "verify": client["MLFLOW_TRACKING_SERVER_CERT_PATH"],
        "timeout": 120,
    }
    url = client["MLFLOW_TRACKING_URI"] + ARTIFACT
    sent = requests.put(url, data=b"kept", **common)  # type: ignore[arg-type]
    assert sent.status_code == 200, sent.text
    return requests.get(url, **common).content  # type: ignore[arg-type]


def test_users_come_and_go_without_a_restart(deployed: Bakery) -> None:
    before = started(deployed)
    given(deployed, "a pass wörd\n", "users", "--add", "ann", "--password-stdin")
    assert logs_in(deployed, "ann", "a pass wörd") == 200
    assert logs_in(deployed, "ann", "another") == 401
    assert logs_in(deployed, "mlflow", password(deployed)) == 200

    # Nobody sees what is printed here, so the password must be somewhere.
    said = deployed.ok("users", "--add", "bob").said
    kept = secrets(deployed)["passwords"]
    assert isinstance(kept, dict)
    assert kept["bob"] not in said
    assert "ann" not in kept
    assert logs_in(deployed, "bob", kept["bob"]) == 200
    assert deployed.ok("users", "--list").out.split() == ["mlflow", "ann", "bob"]

    deployed.ok("users", "--remove", "bob")
    assert logs_in(deployed, "bob", kept["bob"]) == 401
    assert logs_in(deployed, "ann", "a pass wörd") == 200
    assert started(deployed) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--remove", "mlflow"), "own user"),
        (("--add", "mlflow"), "own user"),
        (("--remove", "nobody"), "no user is called nobody"),
        (("--add", "a:b"), "colon"),
        (("--add", "x", "--remove", "y"), "more than one"),
    ],
)
def test_what_cannot_be_is_refused(deployed: Bakery, words: tuple[str, ...], said: str) -> None:
    before = secrets(deployed)
    assert said in deployed.refused("users", *words).err
    assert secrets(deployed) == before


def test_a_rotated_password_takes_the_place_of_the_old_one(deployed: Bakery) -> None:
    old, before = password(deployed), started(deployed)
    deployed.ok("rotate", "--password")
    new = password(deployed)
    assert new != old
    assert logs_in(deployed, "mlflow", new) == 200
    assert logs_in(deployed, "mlflow", old) == 401
    assert started(deployed) == before, "nothing restarts for it"

    # A shell that still has the old one must not bring it back.
    deployed.extra = {"MLFLOW_TRACKING_PASSWORD": old}
    generation = deployed.status()["generation"]
    said = deployed.ok("deploy", "--image", str(deployed.status()["image"])).said
    deployed.extra = {}
    assert "rotated away" in said
    assert deployed.status()["generation"] == generation
    assert (password(deployed), logs_in(deployed, "mlflow", new)) == (new, 200)


def test_a_rotated_storage_key_takes_the_place_of_the_old_one(deployed: Bakery) -> None:
    old = secrets(deployed)["storage_key"]
    assert stores(deployed) == b"kept"
    assert opens_the_store(deployed, old)
    deployed.ok("rotate", "--storage-key")
    new = secrets(deployed)["storage_key"]
    assert new != old
    assert opens_the_store(deployed, new)
    assert not opens_the_store(deployed, old)
    assert stores(deployed) == b"kept"


def test_rotated_secrets_hold(deployed: Bakery) -> None:
    """After a replacement, a rollback to a machine that was made before, and a reboot."""
    image = str(deployed.status()["image"])
    deployed.ok("deploy", "--image", image, "--replace")
    old = password(deployed)
    deployed.ok("rotate")
    new = password(deployed)

    def holds() -> None:
        assert password(deployed) == new
        assert logs_in(deployed, "mlflow", new) == 200
        assert logs_in(deployed, "mlflow", old) == 401
        assert logs_in(deployed, "ann", "a pass wörd") == 200
        assert stores(deployed) == b"kept"

    deployed.ok("rollback")
    holds()
    deployed.ok("stop")
    assert "is stopped" in deployed.refused("rotate").err
    deployed.ok("start")
    holds()
    deployed.ok("deploy", "--image", image, "--replace")
    holds()


SECTION = "Rotations cut off"
SECONDS = (0.6, 1.5, 2.5, 5.0)
SLICE = 2


@pytest.mark.matrix
def test_a_rotation_killed_at_any_point_is_finished_by_the_next_call(
    deployed: Bakery,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    whole = bool(request.config.getoption("--matrix"))
    lines = []
    for seconds in chosen(SECONDS, SLICE, whole=whole):
        started = time.monotonic()
        kill_rotation(deployed, seconds)
        what = f"killed {seconds} s after the state has the new secrets: they hold everywhere"
        lines.append(f"{time.monotonic() - started:6.1f} s  {what}")
        record_property("case", lines[-1])
    if whole:
        write_report(SECTION, lines)


def kill_rotation(deployed: Bakery, seconds: float) -> None:
    old = password(deployed)
    process = deployed.start("rotate")
    state = deployed.folder / "secrets.json"
    text = state.read_text()
    # From the moment on at which the state has the new secrets: before, nothing has happened.
    until(lambda: state.read_text() != text, seconds=60, what="new secrets")
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    deployed.ok("start")
    new = password(deployed)
    assert new != old
    until(lambda: logs_in(deployed, "mlflow", new) == 200, seconds=30, what="new password")
    until(lambda: logs_in(deployed, "mlflow", old) == 401, seconds=30, what="old password refused")
    assert secrets(deployed)["previous_storage_key"] is None
    assert stores(deployed) == b"kept"
