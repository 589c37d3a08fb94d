"""The way into a machine: SSH where a source range is open and it answers, else Run Command."""

import socket
from pathlib import Path

from bakery import ssh
from bakery.azure.context import Azure
from bakery.azure.inside import Inside
from bakery.azure.machines import ADMIN
from bakery.azure.store import Store
from bakery.errors import BakeryError
from bakery.state import write_atomically
from bakery.targets.base import Answer, SshAccess

_KEY = "ssh/id_ed25519"
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


class Access:
    """Commands in the machines of a deployment."""

    def __init__(self, azure: Azure, *, alone: bool) -> None:
        self._azure = azure
        self._inside = Inside(azure, alone=alone)
        self._folder = azure.settings.state_dir.absolute() / "azure" / azure.names.id

    @property
    def ssh_open(self) -> bool:
        """Whether a range of addresses may reach SSH."""
        return bool(self._azure.settings.azure_ssh_sources)

    def public_key(self, store: Store) -> str:
        """Return the public half of the deployment's key; it is made once and kept in the state."""
        private, public = store.read(_KEY), store.read(f"{_KEY}.pub")
        if private and public:
            self._write(private, public)
            return public.strip()
        public = ssh.make_key(self._key)
        store.write(f"{_KEY}.pub", public)
        store.write(_KEY, self._key.read_text(encoding="ascii"))
        return public

    def ssh(self, number: int, address: str, store: Store) -> SshAccess | None:
        """Return how to log in to the machine that has the public address; None where closed."""
        if not self.ssh_open or not address:
            return None
        self.public_key(store)
        access = SshAccess(
            host=address,
            user=ADMIN,
            key=self._key,
            known_hosts=self._folder / f"known_hosts-{number}",
        )
        if not access.known_hosts.exists():
            if not _port_open(address):
                return None  # closed to this host, whoever else it is open for
            self._learn_host_key(number, access)
        return access

    def execute(
        self,
        number: int,
        words: list[str],
        *,
        access: SshAccess | None,
        stdin: str | None,
        timeout: float,
    ) -> Answer:
        """Run a command as root, over SSH if there is a way, else by Run Command."""
        if access is not None:
            done = ssh.command(access, ["sudo", *words], stdin=stdin, timeout=timeout)
            if done.returncode != 255:
                return Answer(done.returncode, done.stdout, done.stderr)
        return self._inside.execute(number, words, stdin=stdin, timeout=timeout)

    def finish(self) -> None:
        """Leave nothing behind in the machines."""
        self._inside.finish()

    def console(self, number: int) -> str:
        """Return the end of what a machine wrote to its console."""
        text = self._inside.console(number)
        return "".join(one for one in text if one == "\n" or one.isprintable())

    def _learn_host_key(self, number: int, access: SshAccess) -> None:
        """Ask the machine for its host key by a way that Azure vouches for."""
        answer = self._inside.execute(number, ["cat", _HOST_KEY])
        if answer.code != 0:
            raise BakeryError("the machine does not tell its host key", hint="./inv status")
        kind, value = answer.out.split()[:2]
        write_atomically(access.known_hosts, f"{access.host} {kind} {value}\n")

    def _write(self, private: str, public: str) -> None:
        if not self._key.exists() or self._key.read_text(encoding="ascii") != private:
            write_atomically(self._key, private)
            write_atomically(self._key.with_suffix(".pub"), public, mode=0o644)

    @property
    def _key(self) -> Path:
        return self._folder / "id_ed25519"


def resolves_to(hostname: str, address: str) -> bool:
    """Return whether a host name leads to an address, as this host sees it."""
    try:
        rows = socket.getaddrinfo(hostname, 443, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return False
    return address in {str(row[4][0]) for row in rows}


def _port_open(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=4):
            return True
    except OSError:
        return False
