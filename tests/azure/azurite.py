"""The data plane: a real Azurite that knows the accounts of a fake, and only their present keys."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from bakery import azurite, ssh, state

_PRELOAD = Path(__file__).with_name("accounts.js")
_TOLD_SECONDS = 20


@dataclass(frozen=True)
class _Service(azurite.Azurite):
    """Azurite with any number of accounts, which may change while it runs."""

    accounts: str = ""
    """As Azurite takes them: `name:key1:key2;name:key1:key2`."""

    @property
    def _accounts(self) -> dict[str, str]:
        return {"NODE_OPTIONS": f"--require {_PRELOAD}", "FAKE_ACCOUNTS_FILE": str(self._file)}

    @property
    def _file(self) -> Path:
        return self.folder / "accounts"

    def tell(self, executable: Path) -> None:
        """Let it know the accounts; start it where it does not run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state.write_atomically(self._file, self.accounts)
        process = self._process()
        if process is None:
            self.start(executable)
            return
        os.kill(process, signal.SIGUSR2)
        if not ssh.wait(self._told, seconds=_TOLD_SECONDS, pause=0.01):
            raise RuntimeError(f"Azurite did not take its accounts; see {self.log}")

    def _told(self) -> bool:
        seen = self._file.with_name("accounts.seen")
        return seen.exists() and seen.read_text(encoding="ascii") == self.accounts


class AzuriteStores:
    """Storage accounts that one Azurite holds, with their present keys only.

    Several fakes may share one, and each takes away what it made.
    """

    def __init__(self, folder: Path, cache: Path, address: str) -> None:
        """Install it; it is started with the first account.

        Args:
            folder: For its data and its log.
            cache: Where it is or will be installed.
            address: Where it listens.
        """
        self._folder, self._address = folder.absolute(), address
        self._executable = azurite.install(cache.absolute())
        self._keys: dict[str, tuple[str, str]] = {}
        self.door = ""
        """The address where clients are sent instead, if there is a door in front of it."""
        self.scheme = "http"

    def set_keys(self, account: str, keys: tuple[str, str]) -> None:
        if self._keys.get(account) != keys:
            self._keys[account] = keys
            self._service.tell(self._executable)

    def remove(self, account: str) -> None:
        keys = self._keys.get(account)
        if keys is None:
            return
        for name in self.containers(account, keys[0]) or []:
            self.delete_container(account, keys[0], name)
        del self._keys[account]
        self._service.tell(self._executable)

    @property
    def address(self) -> str:
        """Where Azurite itself listens."""
        return self._address

    def endpoint(self, account: str) -> str:
        return f"{self.scheme}://{self.door or self._address}:{azurite.PORT}/{account}/"

    def containers(self, account: str, key: str) -> list[str] | None:
        with self._client(account, key) as client:
            return [one.name for one in client.list_containers()]

    def make_container(self, account: str, key: str, name: str) -> None:
        with self._client(account, key) as client:
            try:
                client.create_container(name)
            except ResourceExistsError:
                return

    def delete_container(self, account: str, key: str, name: str) -> None:
        with self._client(account, key) as client:
            try:
                client.delete_container(name)
            except ResourceNotFoundError:
                return

    def close(self) -> None:
        self._service.stop()

    @property
    def _service(self) -> _Service:
        words = [":".join((name, *keys)) for name, keys in sorted(self._keys.items())]
        return _Service(self._folder, self._address, "any", "any", accounts=";".join(words))

    @contextmanager
    def _client(self, account: str, key: str) -> Iterator[BlobServiceClient]:
        credential = AzureNamedKeyCredential(account, key)
        own = f"http://{self._address}:{azurite.PORT}/{account}/"
        with BlobServiceClient(own, credential=credential, retry_total=2) as client:
            yield client
