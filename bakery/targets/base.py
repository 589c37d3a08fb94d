"""What every target gives: a served deployment, and the verbs that make and remove one.

`Target` is the whole contract between the pages of steps (deploy, replace, rotate, ...) and the
place where a deployment lives. Each method can be repeated and converges; each may be the last
thing that a killed run did.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakery.manifest import Manifest
    from bakery.settings import Settings
    from bakery.state import Deployment, Generation, Secrets


@dataclass(frozen=True)
class SshAccess:
    """How to log in to a machine as a user who may sudo."""

    host: str
    user: str
    key: Path
    known_hosts: Path
    port: int = 22

    @property
    def options(self) -> list[str]:
        """Options for ssh and scp: our key, the machine's known host key, no questions."""
        return [
            "-F", "none",
            "-i", str(self.key),
            "-o", f'UserKnownHostsFile="{self.known_hosts}"',
            "-o", "StrictHostKeyChecking=yes",
            "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=5",
            "-o", "LogLevel=ERROR",
        ]  # fmt: skip


@dataclass(frozen=True)
class BlobAccess:
    """The artifact store, as seen from this host."""

    account: str
    container: str
    key: SecretStr
    endpoint: str
    """Such as http://10.88.0.1:10000/devstoreaccount1 or https://ACCOUNT.blob.core.windows.net."""


@dataclass(frozen=True)
class Server:
    """A deployed server, as its clients and its checks need it."""

    name: str
    hostname: str
    address: str
    username: str
    password: SecretStr
    ca_file: Path | None
    """The CA to trust beside the system's; None when a public one signed the certificate."""
    ssh: SshAccess
    blob: BlobAccess
    data_disk_uuid: str
    image_manifest: Path

    @property
    def url(self) -> str:
        """The address that clients use."""
        return f"https://{self.hostname}"


@dataclass(frozen=True)
class Answer:
    """What a command in a machine came to."""

    code: int
    """Its exit code; 255 when the machine could not be reached."""
    out: str
    err: str


class Target(Protocol):
    """One deployment where it lives, opened by one run at a time."""

    settings: "Settings"
    deployment: "Deployment"

    # -- state: on this host for local, in Blob for Azure ------------------------------------------

    @property
    def secrets(self) -> "Secrets":
        """What clients and machines log in with."""

    def save(self) -> None:
        """Write `deployment` where it is remembered, in one piece."""

    def save_secrets(self, values: "Secrets") -> None:
        """Write the secrets where they are remembered."""

    # -- what lives as long as the deployment ------------------------------------------------------

    def check(self) -> None:
        """Refuse what cannot work, before anything is made.

        Raises:
            InputError: With what to do about it.
        """

    def settle(self) -> None:
        """Fix the deployment's name, addresses and secrets; those given win over those kept."""

    def foundations(self) -> "Iterator[tuple[str, Callable[[], None]]]":
        """Give the steps, each with its title, that make what all generations share.

        Network, artifact store, address, data disk: all that outlives a generation.
        """

    def destroy(self, *, with_data: bool) -> list[str]:
        """Remove everything but data and artifacts, these too `with_data`.

        Returns what could not be removed; one failure does not stop the rest.
        """

    # -- images ------------------------------------------------------------------------------------

    def choose_image(self, image: str | None) -> "Manifest":
        """Return an image by its id, or the newest good one.

        Raises:
            InputError: There is no such image.
        """

    def schema(self, image: "Manifest") -> dict[str, Any]:
        """Return what an image's MLflow reads: `revision`, and `ancestors` before it."""

    # -- generations: the steps of a replacement, in their order -----------------------------------

    def environment(self) -> dict[str, Any]:
        """Return the environment that a new machine of this deployment gets, without serial."""

    def create(self, generation: "Generation") -> str:
        """Make a machine and boot it to standby: no data disk, no service address, nobody admitted.

        A machine that is kept (for a rollback) is started to standby instead. Returns the digest
        of the environment it was given; empty for one that was kept.
        """

    def quiesce(self, generation: "Generation") -> None:
        """Let the server finish what it is doing, stop it, unmount the data disk.

        A machine that does not do so is fenced: killed or deallocated.

        Raises:
            BakeryError: It could not be fenced either; nobody may touch its disk.
        """

    def detach(self, generation: "Generation") -> None:
        """Take the data disk from a quiesced or stopped machine."""

    def snapshot(self) -> None:
        """Copy the data disk as it is; no machine may have it."""

    def attach(self, generation: "Generation") -> None:
        """Give the data disk to a machine in standby, hot.

        Raises:
            BakeryError: Another machine has it.
        """

    def move_address(self, generation: "Generation") -> None:
        """Lead the service address to this machine and to no other."""

    def activate(self, generation: "Generation") -> None:
        """Let the machine take disk and address into use; only the checker is admitted."""

    def admit(self, generation: "Generation") -> None:
        """Let every client in; the machine remembers that over its own reboots."""

    def retire(self, generation: "Generation") -> None:
        """Stop a machine for good and keep it for a rollback; on Azure: deallocate."""

    def remove(self, generation: "Generation") -> None:
        """Remove a machine with its disk; never the data disk."""

    def changed_data(self) -> bool:
        """Return whether, since the snapshot, something was done that an older image cannot read.

        That is a migration of MLflow's schema or of MySQL's own files.
        """

    def restore_snapshot(self) -> None:
        """Put the snapshot in the data disk's place; what it replaces is kept beside it."""

    def forget_snapshot(self) -> None:
        """Remove the snapshot."""

    def running(self, generation: "Generation") -> bool:
        """Return whether a generation's machine runs, in standby or serving."""

    def generations(self) -> "list[Generation]":
        """Return every generation that has a machine here, remembered or not."""

    # -- inside a machine --------------------------------------------------------------------------

    def execute(
        self,
        generation: "Generation",
        words: list[str],
        *,
        stdin: str | None = None,
        timeout: float = 180,
    ) -> Answer:
        """Run a command in a machine as root; secrets go through `stdin` only.

        `timeout` is in seconds. Over SSH, or by Azure's Run Command where no SSH is open.
        """

    def console(self, generation: "Generation") -> str:
        """Return the end of what the machine wrote to its console."""

    def server(self, generation: "Generation | None" = None) -> Server:
        """Return the server as its clients see it; of the generation that counts unless given.

        Raises:
            InputError: Nothing is deployed.
        """


class OpensTarget(Protocol):
    """How a target is opened: one for each value of the setting `target`."""

    def __call__(
        self, settings: "Settings", *, new: bool = False
    ) -> AbstractContextManager[Target]:
        """Give the deployment that the settings name, and nobody else at it.

        Raises:
            InputError: It can never work, or (unless `new`) there is none; nothing was made.
            BakeryError: Another run is at it; says whose.
        """
