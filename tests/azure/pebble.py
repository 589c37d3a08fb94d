"""Pebble, Let's Encrypt's own test server: real ACME, and a root that nobody trusts by itself."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from bakery import ssh, tls
from bakery.run import need, tail

_PORT, _MANAGEMENT = 14000, 15000
_START_SECONDS = 20


@dataclass(frozen=True)
class Pebble:
    """A running Pebble."""

    directory: str
    """The URL that ACME clients are given."""
    ca: Path
    """Who signed the directory's own HTTPS."""
    root: Path
    """Who signs the certificates that it gives out."""
    log: Path

    def issued(self) -> int:
        """Return how many certificates it has given out."""
        return self.log.read_text(encoding="utf-8").count("Issued certificate serial")


@contextmanager
def running(folder: Path, address: str) -> Iterator[Pebble]:
    """Give a Pebble that listens on an address and looks for names as this host does."""
    program = need("pebble", package="pebble", why="it is the ACME server of the tests")
    folder.mkdir(parents=True, exist_ok=True)
    made = tls.local_certificate(folder / "tls", "acme.test", address)
    chain, key = folder / "directory.pem", folder / "directory.key"
    chain.write_text(made.chain, encoding="ascii")
    key.touch(mode=0o600)
    key.write_text(made.key, encoding="ascii")
    config = folder / "pebble.json"
    config.write_text(json.dumps({"pebble": _config(address, chain, key)}), encoding="utf-8")
    log = folder / "pebble.log"
    # No pauses and no refused nonces: both are there to annoy clients.
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-config", str(config), "-strict"], stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, env=quick, cwd=folder,
        )  # fmt: skip
    try:
        root = folder / "root.pem"
        ca = tls.ca_file(folder / "tls")
        if not ssh.wait(lambda: _root(address, ca, root), seconds=_START_SECONDS):
            raise RuntimeError(f"Pebble did not answer: {tail(log)}")
        yield Pebble(f"https://{address}:{_PORT}/dir", ca, root, log)
    finally:
        process.terminate()
        process.wait()


def _config(address: str, chain: Path, key: Path) -> dict[str, object]:
    return {
        "listenAddress": f"{address}:{_PORT}",
        "managementListenAddress": f"{address}:{_MANAGEMENT}",
        "certificate": str(chain), "privateKey": str(key),
        "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }  # fmt: skip


def _root(address: str, ca: Path, root: Path) -> bool:
    try:
        answer = requests.get(f"https://{address}:{_MANAGEMENT}/roots/0", verify=str(ca), timeout=5)
    except requests.RequestException:
        return False
    root.write_text(answer.text, encoding="ascii")
    return answer.ok
