"""What the user brings: a password of any printable symbols, a certificate."""

import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from requests.auth import HTTPBasicAuth

from bakery import tls
from tests.e2e.bakery import INVOKE, PROJECT, Bakery

PRINTABLE = "".join(chr(code) for code in range(33, 127))
# Two within bcrypt's 72 bytes: together every symbol, spaces at both ends, non-ASCII.
PASSWORDS = (PRINTABLE[:47], f" {PRINTABLE[47:]} äß€漢 ")


def test_the_two_hold_every_symbol() -> None:
    assert set(string.printable) - set(string.whitespace) <= set("".join(PASSWORDS))
    assert all(len(one.encode()) <= 72 for one in PASSWORDS)


def shown_by(bakery: Bakery, shell: str) -> str:
    """Return the password that a real shell has after it took what `env` prints."""
    printed = f"{INVOKE[0]} --search-root {PROJECT} env --shell {shell}"
    take = f"{printed} | source" if shell == "fish" else f'eval "$({printed})"'
    command = f'{take} && printf %s "$MLFLOW_TRACKING_PASSWORD"'
    return subprocess.run(
        [shell, "-c", command], env=bakery.environment, check=True, text=True, capture_output=True
    ).stdout


def logs_in(bakery: Bakery, password: str) -> int:
    client = bakery.client()
    login = HTTPBasicAuth(client["MLFLOW_TRACKING_USERNAME"].encode(), password.encode())
    return requests.get(
        f"{client['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1",
        auth=login,
        verify=client["MLFLOW_TRACKING_SERVER_CERT_PATH"],
        timeout=30,
    ).status_code


def test_every_symbol_works_and_can_be_changed(
    make_bakery: Callable[..., Bakery], tmp_path: Path
) -> None:
    bakery = make_bakery()
    for password, other in (PASSWORDS, PASSWORDS[::-1]):
        # The database's password too, so that SQL and option files are tried as well.
        bakery.extra = {
            "MLFLOW_TRACKING_USERNAME": "a user with $ymbols & ümlauts",
            "MLFLOW_TRACKING_PASSWORD": password,
            "MYSQL_PASSWORD": password,
        }
        bakery.ok("deploy")
        assert logs_in(bakery, password) == 200
        assert logs_in(bakery, other) == 401
        bakery.extra = {"MLFLOW_TRACKING_USERNAME": bakery.extra["MLFLOW_TRACKING_USERNAME"]}
        for shell in ("bash", "zsh", "sh", "fish"):
            assert shown_by(bakery, shell) == password
        assert "checks passed" in bakery.ok("check").err
    serves_a_certificate_of_one_s_own(bakery, tmp_path)


def serves_a_certificate_of_one_s_own(bakery: Bakery, folder: Path) -> None:
    """It takes the place of ours, and only its own authority vouches for it."""
    client, hostname = bakery.client(), str(bakery.facts["hostname"])
    tls.local_certificate(folder, hostname, "127.0.0.1")
    own = {
        "BAKERY_CERTIFICATE": str(folder / "server.pem"),
        "BAKERY_CERTIFICATE_KEY": str(folder / "server.key"),
    }
    others = client["MLFLOW_TRACKING_SERVER_CERT_PATH"]
    bakery.extra |= own | {"BAKERY_CERTIFICATE_ROOT": others}
    assert "does not lead to an authority" in bakery.refused("deploy").err
    bakery.extra["BAKERY_CERTIFICATE_ROOT"] = str(tls.ca_file(folder))
    bakery.ok("deploy")
    assert bakery.client()["MLFLOW_TRACKING_SERVER_CERT_PATH"] == str(tls.ca_file(folder))
    assert logs_in(bakery, client["MLFLOW_TRACKING_PASSWORD"]) == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(client["MLFLOW_TRACKING_URI"], verify=others, timeout=30)
    assert "checks passed" in bakery.ok("check").err
