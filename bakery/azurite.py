"""Azurite, the emulator of Azure Blob Storage: a host process that belongs to a deployment."""

import base64
import hashlib
import os
import secrets
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import requests
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import BlobServiceClient

from bakery import ssh
from bakery.errors import BakeryError, InputError
from bakery.process import alive, write_down
from bakery.run import environment, need, run, tail
from bakery.store import build

PORT = 10000
_PACKAGE = Path(__file__).parents[1] / "images" / "azurite"
_START_SECONDS = 60


def generate_key() -> str:
    """Return a storage account key as Azure makes them: 64 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


def install(cache: Path) -> Path:
    """Install the pinned Azurite from its lock into the cache; return its executable.

    Raises:
        InputError: Node.js is missing.
        BakeryError: npm failed.
    """
    lock = (_PACKAGE / "package-lock.json").read_bytes()
    folder = cache / "azurite" / hashlib.sha256(lock).hexdigest()[:16]
    executable = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if executable.exists():
        return executable
    need("npm", package="npm", why="Azurite, the emulator of Azure Blob, is a Node.js program")

    def make(part: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            (part / name).write_bytes((_PACKAGE / name).read_bytes())
        words = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"]
        run(words, cwd=part, log=cache / "azurite" / "npm.log", hint="is npm's registry reachable?")

    build(folder, make)
    return executable


@dataclass(frozen=True)
class Azurite:
    """One running Blob service, bound to one address, its data and its log in `folder`."""

    folder: Path
    address: str
    account: str
    key: str
    other_key: str = ""
    """Accepted too, while a key is rotated."""

    @property
    def endpoint(self) -> str:
        """The account's Blob endpoint."""
        return f"http://{self.address}:{PORT}/{self.account}"

    @property
    def log(self) -> Path:
        """What Azurite says."""
        return self.folder / "azurite.log"

    def running(self) -> bool:
        """Return whether our process lives."""
        return self._process() is not None

    def start(self, executable: Path) -> None:
        """Start it and wait until it answers; nothing to do when it runs with this key.

        Raises:
            InputError: Something else listens on its port, or Node.js is missing.
            BakeryError: It ended, or did not answer in time.
        """
        if not self._knows_account():
            self.stop()
            need("node", package="nodejs", why="Azurite, the emulator of Azure Blob, runs on it")
            _check_free(self.address)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._launch(executable)
        # Also one that runs: whoever started it may have been killed before it answered.
        ssh.wait(lambda: not self.running() or self._answers(), seconds=_START_SECONDS)
        if not (self.running() and self._answers()):
            self.stop()
            raise BakeryError(
                "Azurite did not answer", hint="see its log", log=self.log, tail=tail(self.log)
            )

    def stop(self) -> None:
        """End it in order; nothing to do when it is gone."""
        process = self._process()
        if process is None:
            return
        os.kill(process, signal.SIGTERM)
        if not ssh.wait(lambda: not self.running(), seconds=10, pause=0.05):
            os.kill(process, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)

    def make_container(self, name: str) -> None:
        """Make a private container unless it is there.

        Raises:
            BakeryError: Azurite refuses to.
        """
        credential = AzureNamedKeyCredential(self.account, self.key)
        # No retries, which take minutes: it answered a moment ago.
        service = BlobServiceClient(self.endpoint, credential=credential, retry_total=0)
        try:
            service.create_container(name)
        except ResourceExistsError:
            return
        except AzureError as error:
            raise BakeryError(
                f"Azurite made no container {name}: {error.message.splitlines()[0]}",
                hint="see its log",
                log=self.log,
            ) from error
        finally:
            service.close()

    @property
    def _pid_file(self) -> Path:
        return self.folder / "azurite.pid"

    @property
    def _accounts(self) -> dict[str, str]:
        words = (self.account, self.key, self.other_key)
        return {"AZURITE_ACCOUNTS": ":".join(word for word in words if word)}

    def _knows_account(self) -> bool:
        """Return whether our process runs, and with this account and key."""
        process = self._process()
        if process is None:
            return False
        given = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        return all(f"{name}={value}".encode() in given for name, value in self._accounts.items())

    def _launch(self, executable: Path) -> None:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        words = [
            "node", str(executable), "--silent", "--disableTelemetry",
            "--location", str(data), "--blobHost", self.address, "--blobPort", str(PORT),
            # The current SDKs speak a newer version of the API than Azurite knows.
            "--skipApiVersionCheck",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            subprocess.Popen(
                words,
                # By the child itself: a kill of ours right after this call leaves no stranger.
                preexec_fn=self._write_down,  # noqa: PLW1509 - there is one thread
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The key goes by the environment: argv is world-readable.
                env=environment(self._accounts),
                start_new_session=True,
                cwd=self.folder,
            )

    def _write_down(self) -> None:
        write_down(self._pid_file, os.getpid())

    def _answers(self) -> bool:
        try:
            requests.get(self.endpoint, params={"comp": "list"}, timeout=2)
        except requests.RequestException:
            return False
        return True

    def _process(self) -> int | None:
        return alive(self._pid_file)


def _check_free(address: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, PORT))
        except OSError as error:
            raise InputError(
                f"{address}:{PORT} is busy ({error.strerror})",
                hint=f"find who listens there: ss -ltnp 'sport = :{PORT}'",
            ) from error
