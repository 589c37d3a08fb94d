"""Secrets: where they may be read, and that they are nowhere else."""

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.probes import DATA, RUN, lines, said

ENVIRONMENT = "/etc/mlflow-bakery/environment.json"


@pytest.fixture(scope="module")
def secrets(host: Host) -> dict[str, str]:
    """Every secret of this machine; they are compared here and never sent anywhere."""
    environment = json.loads(said(host, f"cat {DATA}/environment.json"))
    found = {
        "storage key": environment["storage"]["key"],
        "MySQL password": mysql_password(host, environment),
        **{f"hash of {user}": text for user, text in environment["users"].items()},
    }
    if environment["tls"]:
        # A PEM may be folded differently elsewhere; its first full line may not.
        found["TLS key"] = environment["tls"]["key"].splitlines()[1]
    return found


def mysql_password(host: Host, environment: dict[str, Any]) -> str:
    given = environment["mysql"]["password"]
    return str(given) if given else said(host, f"cat {DATA}/secrets/mysql-password")


def leaked(secrets: dict[str, str], text: str) -> list[str]:
    """Return the names of the secrets in a text, as they are or as JSON writes them."""
    return [
        name
        for name, secret in secrets.items()
        if secret in text or json.dumps(secret)[1:-1] in text
    ]


@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("docker inspect $(docker ps --all --quiet)", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        ("docker image inspect $(docker image ls --quiet --no-trunc)", "mlflow"),
        ("ps axww --format args", "traefik"),
        ("journalctl --no-pager --lines=5000", "mlflow"),
        ("for each in $(docker ps --all --quiet); do docker logs $each 2>&1; done", "mysqld"),
        (f"cat {RUN}/compose.env", "MLFLOW_HOSTNAME"),
        ("cat /var/log/cloud-init.log /var/log/cloud-init-output.log", "Cloud-init"),
    ],
    ids=["inspect", "images", "processes", "journal", "container logs", "compose", "cloud-init"],
)
def test_no_secret_in(command: str, there: str, host: Host, secrets: dict[str, str]) -> None:
    text = said(host, f"sh -c '{command}'")
    found = leaked(secrets, text)
    assert found == []
    # The control: the text is the right one, and a secret in it would be seen.
    assert there.lower() in text.lower()
    blind = [name for name, secret in secrets.items() if name not in leaked(secrets, text + secret)]
    assert blind == []


def test_secrets_are_where_they_belong(host: Host, secrets: dict[str, str]) -> None:
    # The control of the tests above: all are found by the same search in their own places.
    text = said(host, f"cat {ENVIRONMENT} {DATA}/environment.json {RUN}/mysql/client.cnf")
    quoted = {name: secret for name, secret in secrets.items() if name != "MySQL password"}
    assert leaked(quoted, text) == list(quoted)


@pytest.mark.parametrize(
    ("path", "mode", "kind"),
    [
        (ENVIRONMENT, 0o600, "file"),
        (f"{DATA}/environment.json", 0o600, "file"),
        (f"{DATA}/secrets", 0o700, "directory"),
        (f"{DATA}/backups", 0o700, "directory"),
        (RUN, 0o700, "directory"),
    ],
    ids=["environment", "kept environment", "secrets", "backups", "run"],
)
def test_mode(path: str, mode: int, kind: str, host: Host) -> None:
    found = said(host, f"stat --format '%a %U %F' {path}").split(maxsplit=2)
    assert (int(found[0], 8), found[1]) == (mode, "root")
    assert kind in found[2]


def test_no_secret_file_is_open_to_others(host: Host) -> None:
    # The mark of the migration is no secret; the containers that wait for it are of other users.
    probe = "find %s -name migration -prune -o -type f -perm /077 -print"
    assert lines(host, probe % RUN) == []
    assert lines(host, probe % f"{DATA}/secrets") == []
    assert lines(host, probe % "/etc/hostname") == ["/etc/hostname"]
    assert len(lines(host, f"find {RUN} -type f")) >= 5


def test_secrets_in_run_are_not_on_a_disk(host: Host) -> None:
    probe = "stat --file-system --format %T "
    assert said(host, probe + RUN) == "tmpfs"
    assert said(host, probe + DATA) != "tmpfs"
