"""What every target gives: a served deployment, and the verbs that make and remove one."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr


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
