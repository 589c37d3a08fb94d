"""A deployment's state in Azure: a container of its storage account, under a lease.

Whoever may read the account's keys can take a deployment over, from an empty state folder.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from bakery.azure.errors import code, explained
from bakery.errors import BakeryError
from bakery.state import Deployment, Secrets, whoever

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobLeaseClient, BlobServiceClient

CONTAINER = "bakery"
_LEASE_SECONDS = 60
_RENEW_SECONDS = 20


class Store:
    """The files of one deployment in Blob."""

    def __init__(self, service: "BlobServiceClient", name: str) -> None:
        self.use(service)
        self._name = name
        self._tokens: dict[str, str] | None = None
        self._lost = threading.Event()

    def use(self, service: "BlobServiceClient") -> None:
        """Reach it in another way from now on: with another key."""
        self._container = service.get_container_client(CONTAINER)

    @explained("read the deployment's state")
    def load(self) -> Deployment | None:
        """Return what is remembered, or None before the first deploy.

        Raises:
            BakeryError: It is damaged.
        """
        text = self._read("deployment.json")
        if text is None:
            return None
        try:
            return Deployment.model_validate_json(text)
        except ValidationError as error:
            raise BakeryError(
                f"deployment.json in the container {CONTAINER} is damaged",
                hint="the container keeps older versions: put one back",
                tail=str(error),
            ) from error

    @explained("write the deployment's state")
    def save(self, deployment: Deployment) -> None:
        """Remember the facts, in one write."""
        self._write("deployment.json", deployment.model_dump_json(indent=2, by_alias=True))

    @explained("read the deployment's secrets")
    def load_secrets(self) -> Secrets | None:
        """Return the secrets, or None before the first deploy.

        Raises:
            BakeryError: They are damaged.
        """
        text = self._read("secrets.json")
        if text is None:
            return None
        try:
            return Secrets.model_validate_json(text)
        except ValidationError:
            # Without its details: they quote what is in the file.
            raise BakeryError(
                f"secrets.json in the container {CONTAINER} is damaged",
                hint="the container keeps older versions: put one back",
            ) from None

    @explained("write the deployment's secrets")
    def save_secrets(self, values: Secrets) -> None:
        """Remember the secrets."""
        text = json.dumps(
            values.model_dump(), indent=2, ensure_ascii=False, default=SecretStr.get_secret_value
        )
        self._write("secrets.json", text)

    def tokens(self) -> dict[str, str]:
        """Return the tokens of operations that were under way when the last run ended."""
        if self._tokens is None:
            self._tokens = json.loads(self._read("operations.json") or "{}")
        return dict(self._tokens or {})

    def save_tokens(self, tokens: dict[str, str]) -> None:
        """Remember them."""
        if tokens != self.tokens():
            self._write("operations.json", json.dumps(tokens))
            self._tokens = dict(tokens)

    def read(self, name: str) -> str | None:
        """Return one more file, or None when there is none."""
        with explained(f"read {name}"):
            return self._read(name)

    def write(self, name: str, text: str) -> None:
        """Remember one more file."""
        with explained(f"write {name}"):
            self._write(name, text)

    def delete(self, name: str) -> None:
        """Forget one more file, if it is there."""
        from azure.core.exceptions import ResourceNotFoundError

        with explained(f"delete {name}"), contextlib.suppress(ResourceNotFoundError):
            self._container.delete_blob(name)

    # -- one run at a time -------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two runs on one deployment apart, wherever they run.

        The lease ends by itself a minute after a run that holds it was killed; one of this very
        host whose process is gone is broken at once.

        Raises:
            BakeryError: Another one is at work; says who, where and since when.
        """
        lease = str(self._acquire(self._container.get_blob_client("lock")).id)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(lease, ended), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            # The container may be gone, with all that was in it.
            with contextlib.suppress(Exception):
                self._lease(lease).release()

    @explained("look for the deployment's state")
    def exists(self) -> bool:
        """Return whether there is a container for it."""
        return self._container.exists()

    @explained("take the lock of the deployment")
    def _acquire(self, blob: "BlobClient") -> "BlobLeaseClient":
        from azure.core.exceptions import (
            HttpResponseError,
            ResourceExistsError,
            ResourceNotFoundError,
        )

        try:
            lease = blob.acquire_lease(lease_duration=_LEASE_SECONDS)
        except ResourceNotFoundError as error:
            if code(error) != "BlobNotFound":
                raise
            # Made once; a lease needs something to be on.
            with contextlib.suppress(ResourceExistsError):
                blob.upload_blob(b"", overwrite=False)
            return self._acquire(blob)
        except HttpResponseError as error:
            if code(error) != "LeaseAlreadyPresent":
                raise
            holder = blob.get_blob_properties().metadata
            if not _is_gone(holder):
                raise self._held(holder) from None
            lease = _taken_over(blob)
        blob.set_blob_metadata(_holder(), lease=lease)
        return lease

    def _lease(self, lease: str) -> "BlobLeaseClient":
        from azure.storage.blob import BlobLeaseClient

        return BlobLeaseClient(self._container.get_blob_client("lock"), lease_id=lease)

    def _renew(self, lease: str, ended: threading.Event) -> None:
        from azure.core.exceptions import HttpResponseError

        while not ended.wait(_RENEW_SECONDS):
            try:
                self._lease(lease).renew()
            except HttpResponseError as error:
                if error.status_code in {404, 409, 412}:  # somebody else has it
                    self._lost.set()
            except Exception:  # noqa: BLE001, S110 (made again in time: the lease lasts for three)
                pass

    def _held(self, holder: dict[str, Any]) -> BakeryError:
        who = f"{holder.get('by', 'somebody')} (process {holder.get('process', 'unknown')})"
        return BakeryError(
            f"{who} is at work on {self._name} since {holder.get('since', 'a moment ago')}",
            hint=f"wait for it to end; after a kill the lock ends within {_LEASE_SECONDS} s",
        )

    # -- blobs -------------------------------------------------------------------------------------

    def _read(self, name: str) -> str | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self._container.download_blob(name, encoding="utf-8").readall()
        except ResourceNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        if self._lost.is_set():
            raise BakeryError(
                f"another run has taken over {self._name}", hint="./inv status shows what it did"
            )
        self._container.upload_blob(name, text.encode(), overwrite=True)


def _taken_over(blob: "BlobClient") -> "BlobLeaseClient":
    from azure.storage.blob import BlobLeaseClient

    BlobLeaseClient(blob).break_lease(lease_break_period=0)
    return blob.acquire_lease(lease_duration=_LEASE_SECONDS)


def _holder() -> dict[str, str]:
    return {
        "by": whoever(),
        "host": _host(),
        "process": str(os.getpid()),
        "started": _started(os.getpid()),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _is_gone(holder: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this host that does not run any more."""
    if not _host() or holder.get("host") != _host() or not holder.get("process"):
        return False
    return _started(int(holder["process"])) != holder.get("started")


def _host() -> str:
    """Return what only processes that see each other share: this boot and these process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return ""
    return f"{boot.read_text(encoding='ascii').strip()} {Path('/proc/self/ns/pid').readlink()}"


def _started(process: int) -> str:
    """Return when a process began, by the kernel's count; empty when there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
