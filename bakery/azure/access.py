"""The way into a machine: SSH where a source range is open and it answers, else Run Command."""

import socket

from bakery import ssh
from bakery.azure.context import Azure
from bakery.azure.inside import Inside
from bakery.azure.keys import StoredKey
from bakery.azure.machines import ADMIN
from bakery.azure.names import Number
from bakery.azure.store import Store
from bakery.errors import BakeryError, InputError
from bakery.log import note
from bakery.state import write_atomically
from bakery.targets.base import Answer, SshAccess

_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
_TRY_SECONDS = 20


class Access:
    """Commands in the machines of a deployment."""

    def __init__(self, azure: Azure, *, alone: bool) -> None:
        self._azure = azure
        self._inside = Inside(azure, alone=alone)
        self.folder = azure.settings.state_dir.absolute() / "azure" / azure.names.id
        """What this host keeps of the deployment."""
        self._tried: dict[str, SshAccess | None] = {}

    @property
    def ssh_open(self) -> bool:
        """Whether a range of addresses may reach SSH."""
        return bool(self._azure.settings.azure_ssh_sources)

    def key(self, store: Store) -> StoredKey:
        """Return the deployment's key, which is made once and kept in the state."""
        return StoredKey(store, "ssh", self.folder)

    def ssh(self, number: int, machine: str, address: str, store: Store) -> SshAccess | None:
        """Return how to log in to the machine that has the public address; None: one cannot.

        `machine` is Azure's own id of it, which no later one of the same name has. It is tried
        once a run: a command that was sent by SSH is never sent again by the other way.
        """
        if not self.ssh_open or not address:
            return None
        if machine not in self._tried:
            self._tried[machine] = self._try(number, machine, address, store)
        return self._tried[machine]

    def _try(self, number: int, machine: str, address: str, store: Store) -> SshAccess | None:
        if not port_open(address):
            note("SSH is closed to this host, whoever else it is open for: Run Command is used")
            return None
        key = self.key(store)
        key.public()
        known_hosts = self.folder / f"known_hosts-{machine}"
        access = SshAccess(host=address, user=ADMIN, key=key.file, known_hosts=known_hosts)
        if not known_hosts.exists():
            host_key = self.host_key(number)
            write_atomically(known_hosts, f"{address} {host_key}\n")
        if _lets_in(access):
            return access
        note("the machine lets nobody in by SSH: Run Command is used")
        return None

    def execute(
        self,
        number: Number,
        words: list[str],
        *,
        access: SshAccess | None,
        stdin: str | None,
        timeout: float,
    ) -> Answer:
        """Run a command as root, over SSH if there is a way, else by Run Command."""
        if access is None:
            return self._inside.execute(number, words, stdin=stdin, timeout=timeout)
        done = ssh.command(access, ["sudo", *words], stdin=stdin, timeout=timeout)
        return Answer(done.returncode, done.stdout, done.stderr)

    def finish(self) -> None:
        """Leave nothing behind in the machines."""
        self._inside.finish()

    def console(self, number: Number) -> str:
        """Return the end of what a machine wrote to its console."""
        text = self._inside.console(number)
        return "".join(one for one in text if one == "\n" or one.isprintable())

    def host_key(self, number: Number, *, seconds: float = 60) -> str:
        """Ask a machine for its host key by a way that Azure vouches for.

        Raises:
            BakeryError: It does not tell it.
        """
        words = ["sh", "-c", f"until test -s {_HOST_KEY}; do sleep 0.2; done; cat {_HOST_KEY}"]
        answer = self._inside.execute(number, words, timeout=seconds)
        if answer.code != 0:
            raise BakeryError(
                "the machine does not tell its host key",
                hint="./inv status; the end of its console is shown",
                tail=self.console(number) or answer.err,
            )
        return " ".join(answer.out.split()[:2])


def resolves_to(hostname: str, address: str) -> bool:
    """Return whether a host name leads to an address, as this host sees it."""
    try:
        rows = socket.getaddrinfo(hostname, 443, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return False
    return address in {str(row[4][0]) for row in rows}


def _lets_in(access: SshAccess) -> bool:
    try:
        return ssh.command(access, ["true"], timeout=_TRY_SECONDS).returncode == 0
    except InputError:
        raise
    except BakeryError:  # too slow
        return False


def port_open(address: str) -> bool:
    """Return whether this host can reach SSH at an address."""
    try:
        with socket.create_connection((address, 22), timeout=4):
            return True
    except OSError:
        return False
