"""Looking at a deployment: nothing is changed, and what is down is told, not guessed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from bakery import checks, env, ssh, status, tls
from bakery.drivers.nspawn import Nspawn
from bakery.errors import BakeryError, InputError
from bakery.network import Network
from bakery.settings import Settings, load
from bakery.state import Deployment, DeploymentFolder, Generation, Secrets
from tests.unit.samples import certificate_files

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def settings(state: Path) -> Settings:
    """Settings of a deployment that is there, its machine stopped."""
    found = load()
    folder = DeploymentFolder(state, found.name)
    folder.save(
        Deployment(
            name=found.name,
            hostname="m.example.org",
            username="someone",
            network=Network("bk1", "10.88.0.0/28"),
            storage_account="devstoreaccount1",
            storage_container="runs",
            generation=Generation(number=3, image="one"),
        )
    )
    secret = SecretStr("pa55word")
    folder.save_secrets(Secrets(password=secret, password_hash="h", storage_key=SecretStr("k3y")))
    tls.local_certificate(folder.tls, "m.example.org", "10.88.0.2")
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the machine run and answer by SSH in a given way."""

    def runs(answers: Callable[[list[str]], Done], *, ready: bool = True) -> None:
        def wait_ready(*_: object, **__: object) -> float:
            if not ready:
                raise BakeryError("not ready")
            return 0.0

        monkeypatch.setattr(Nspawn, "running", lambda *_: True)
        monkeypatch.setattr(checks, "wait_ready", wait_ready)
        monkeypatch.setattr(ssh, "command", lambda _, words, **__: answers(words))

    return runs


def fine(words: list[str]) -> Done:
    answers = {
        "df": "Use% 1M-blocks\n  7%  16000MiB\n",
        "du": "34M\t/var/lib/mlflow-data/mysql/data/mlflow\n",
        "docker": "mlflow-mysql-1\tUp 2 minutes\nmlflow-mlflow-1\tExited\n",
        "last": '{"name": "x-1", "created": "2026-11-23T02:30:00Z"}\n',
    }
    return Done(words, 0, next(out for word, out in answers.items() if word in words), "")


def down(words: list[str]) -> Done:
    return Done(words, 255, "", "No route to host")


def test_a_stopped_machine(settings: Settings) -> None:
    before = sorted(settings.state_dir.rglob("*"))
    found = status.status(settings)
    assert found["state"] == "stopped"
    assert (found["url"], found["address"]) == ("https://m.example.org", "10.88.0.2")
    assert (found["generation"], found["image"], found["containers"]) == (3, "one", {})
    assert found["data_disk"] is None
    assert found["certificate_expires"].startswith("20")
    assert "pa55word" not in str(found)
    assert sorted(settings.state_dir.rglob("*")) == before


def test_a_ready_machine(settings: Settings, machine: Callable[..., None]) -> None:
    machine(fine)
    found = status.status(settings)
    assert found["state"] == "ready"
    assert found["containers"] == {"mysql": "Up 2 minutes", "mlflow": "Exited"}
    assert found["data_disk"] == "7% of 15.6 GiB used"
    assert found["database"] == "34 MiB"
    assert found["last_backup"]["name"] == "x-1"


def test_a_machine_that_does_not_answer(settings: Settings, machine: Callable[..., None]) -> None:
    machine(down, ready=False)
    found = status.status(settings)
    assert (found["state"], found["containers"]) == ("not ready", {})
    assert (found["data_disk"], found["database"]) == ("unknown", "unknown")
    assert found["last_backup"] is None


@pytest.mark.parametrize(("used", "warned"), [(89, False), (90, True), (100, True)])
def test_a_data_disk_that_is_nearly_full(
    settings: Settings,
    machine: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    used: int,
    warned: bool,
) -> None:
    full = Done([], 0, f"Use% 1M-blocks\n {used}%  974MiB\n", "")
    machine(lambda words: full if "df" in words else fine(words))
    status.status(settings)
    said = capsys.readouterr().err
    assert ("warning: the data disk is" in said) is warned
    assert ("./inv resize" in said) is warned


def test_a_certificate_of_the_user_s_that_is_not_named_now(
    settings: Settings, tmp_path: Path
) -> None:
    server = DeploymentFolder(settings.state_dir, "mlflow").tls / "server.pem"
    server.unlink()
    assert status.status(settings)["certificate_expires"] == "unknown"
    chain, key = certificate_files(tmp_path, "m.example.org")
    given = settings.model_copy(update={"certificate": chain, "certificate_key": key})
    assert status.status(given)["certificate_expires"].startswith("20")


def test_what_was_destroyed_is_not_deployed(settings: Settings) -> None:
    folder = DeploymentFolder(settings.state_dir, "mlflow")
    gone = folder.deployed().model_copy(update={"generation": None, "network": None})
    folder.save(gone)
    with pytest.raises(InputError, match="mlflow is not deployed") as refused:
        status.status(settings)
    assert refused.value.hint == "./inv up"


def test_the_environment_has_the_password_only_when_asked(settings: Settings) -> None:
    shown = status.client_environment(settings, password=True)
    assert shown["MLFLOW_TRACKING_PASSWORD"] == "pa55word"
    assert shown["MLFLOW_TRACKING_URI"] == "https://m.example.org"
    hidden = status.client_environment(settings, password=False)
    assert "pa55word" not in str(hidden)
    assert env.render_env(hidden, "sh")
