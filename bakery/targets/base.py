"""What every target gives: a served deployment, and the verbs that make and remove one.

`Target` is the whole contract between the pages of steps (deploy, replace, rotate, ...) and the
place where a deployment lives. Each method can be repeated and converges; each may be the last
thing that a killed run did.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from bakery.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakery.manifest import Manifest
    from bakery.plan import Change
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
    ssh: "SshAccess | Callable[[], SshAccess | None] | None"
    """How to log in, or what finds that out, where it takes a while; `access` is the answer."""
    blob: BlobAccess
    data_disk_uuid: str
    certificate: Path | None = None
    """The chain that is served, where this host has it."""
    check_token: SecretStr | None = None
    """Who sends it is let in before everybody else is."""

    @property
    def url(self) -> str:
        """The address that clients use."""
        return f"https://{self.hostname}"

    @property
    def access(self) -> SshAccess | None:
        """How to log in; None where no SSH is open: then `Target.execute` is the only way in."""
        return self.ssh() if callable(self.ssh) else self.ssh

    @property
    def login(self) -> SshAccess:
        """How to log in to the machine.

        Raises:
            InputError: No SSH is open.
        """
        access = self.access
        if access is None:
            raise InputError(f"no SSH is open to {self.name}", hint="./inv logs, ./inv console")
        return access

    @property
    def as_client(self) -> "Server":
        """The server as those see it who are not let in early."""
        return replace(self, check_token=None)


@dataclass(frozen=True)
class Answer:
    """What a command in a machine came to."""

    code: int
    """Its exit code; 255 when the machine could not be reached."""
    out: str
    err: str


class Training(Protocol):
    """The training machine of a deployment, whether there is one or not."""

    @property
    def image(self) -> str:
        """The image that it was made from; empty when there is no such machine."""

    @property
    def docker_host(self) -> str:
        """What DOCKER_HOST and `train --where` say to train on it."""

    @property
    def access(self) -> SshAccess:
        """How to log in, with a key that opens no other machine."""

    def check(self) -> None:
        """Refuse what cannot work, before anything is made.

        Raises:
            InputError: With what to do about it.
        """

    def choose_image(self, image: str | None) -> "Manifest":
        """Return an image by its id, or the newest good one that suits the machine.

        Raises:
            InputError: There is no such image, or it does not suit.
        """

    def plan(self, image: "Manifest", *, replace: bool) -> "list[Change]":
        """Return what a deploy of it would do; nothing is written."""

    def removal_plan(self) -> "list[Change]":
        """Return what its removal would do; nothing is written."""

    def prepare(self) -> None:
        """Make the network that it needs, or see that it is as it should be."""

    def create(self, image: "Manifest") -> None:
        """Make the machine anew, of an image; what was in the one before it is gone."""

    def ready(self) -> bool:
        """Return whether the machine's Docker answers over SSH."""

    def start(self) -> None:
        """Boot the machine if it is not up, and wait until its Docker answers over SSH.

        Raises:
            BakeryError: It does not within its time.
        """

    def stop(self) -> None:
        """Shut the machine down; nothing to do when it does not run."""

    def running(self) -> bool:
        """Return whether the machine runs."""

    def remove(self) -> None:
        """Remove the machine with its disk, its key, and what else is only its own."""

    def status(self) -> dict[str, Any] | None:
        """Return what `status` tells of it; None when there is no such machine."""


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

    @property
    def blob(self) -> BlobAccess:
        """The artifact store as this host reaches it."""

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

    def make_storage(self) -> None:
        """Make the artifact store alone: account, key and container."""

    def renew_storage_key(self, given: SecretStr | None = None) -> None:
        """Let another storage key count, in the secrets too; the one until now stays valid.

        It is then `Secrets.previous_storage_key`, until `retire_storage_key`.
        """

    def retire_storage_key(self) -> None:
        """End the storage key that counted before."""

    def grow_data_disk(self, gib: int) -> None:
        """Make the data disk so large, also under a machine; nothing to do when it is.

        Raises:
            InputError: It would become smaller.
        """

    def give_up_data_disk(self) -> None:
        """Make ready for an empty data disk in the place of one that is gone.

        Raises:
            InputError: It is still there.
        """

    def destroy(self, *, with_data: bool) -> list[str]:
        """Remove everything but data and artifacts, these too `with_data`.

        Returns what could not be removed; one failure does not stop the rest.
        """

    @property
    def training(self) -> Training:
        """The training machine, whether there is one or not."""

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

        A machine that is there (the one that counts, and the one kept for a rollback) is started
        instead, and left alone if it runs; the one that counts admits whom it admitted before.
        Returns the digest of the environment it was given; empty for one that was there.
        """

    def quiesce(self, generation: "Generation") -> dict[str, int]:
        """Let the server finish what it is doing, stop it, unmount the data disk.

        A machine that does not do so is fenced: killed or deallocated. Returns how many rows its
        tables had when nobody could write any more; empty if that is not known.

        Raises:
            BakeryError: It could not be fenced either; nobody may touch its disk.
        """

    def detach(self, generation: "Generation") -> None:
        """Take the data disk from a quiesced or stopped machine."""

    def snapshot(self, generation: "Generation") -> None:
        """Copy the data disk as it is before a generation gets it; no machine may have it."""

    def attach(self, generation: "Generation") -> None:
        """Give the data disk to a machine in standby, hot.

        Raises:
            BakeryError: Another machine has it.
        """

    def move_address(self, generation: "Generation") -> None:
        """Lead the service address to this machine and to no other."""

    def activate(self, generation: "Generation") -> None:
        """Let the machine take disk and address into use; does not wait until it serves."""

    def admit(self, generation: "Generation") -> None:
        """Let every client in, from the next start on if it does not serve; it remembers that."""

    def retire(self, generation: "Generation") -> None:
        """Stop a machine for good and keep it for a rollback; on Azure: deallocate."""

    def remove(self, generation: "Generation") -> None:
        """Remove a machine with its disk; never the data disk."""

    def changed_data(self, generation: "Generation") -> bool:
        """Return whether, since its snapshot, something was done that an older image cannot read.

        That is a migration of MLflow's schema or of MySQL's own files. False without a snapshot.
        """

    def restore_snapshot(self, generation: "Generation") -> None:
        """Put a generation's snapshot in the data disk's place; no machine may have that.

        What it replaces is kept beside it; the snapshot stays.

        Raises:
            BakeryError: There is no such snapshot.
        """

    def snapshots(self) -> set[int]:
        """Return the numbers of the generations of which there is a snapshot."""

    def forget_snapshots(self, *, but: set[int]) -> None:
        """Remove all snapshots but those of these generations."""

    def running(self, generation: "Generation") -> bool:
        """Return whether a generation's machine runs, in standby or serving."""

    def fault(self, generation: "Generation") -> str:
        """Return why a machine that was activated never will serve; nothing while it may.

        Nothing, too, where each look would be a call to Azure.
        """

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
        """Return what the machine wrote to its console since it was last started."""

    def manifest_file(self, generation: "Generation") -> Path:
        """Return where the manifest of a generation's image lies, on this host."""

    # -- looking -----------------------------------------------------------------------------------

    def drift(self) -> list[str]:
        """Return, in words, what somebody else has changed; empty where nobody else can."""

    def whole(self, generation: "Generation") -> bool:
        """Return whether a machine that runs still has the data disk and the service address."""

    def server(self, generation: "Generation | None" = None) -> Server:
        """Return the server as its clients see it; of the generation that counts unless given.

        Raises:
            InputError: Nothing is deployed.
        """
