"""A key of ours for SSH: made once, kept in the state, and on this host when it is used."""

from pathlib import Path

from bakery import ssh
from bakery.azure.store import Store
from bakery.state import write_atomically

_NAME = "id_ed25519"


class StoredKey:
    """A key pair that every run with the state can use."""

    def __init__(self, store: Store, place: str, folder: Path) -> None:
        """Begin; `place` is where it is in the state, `folder` where it is on this host."""
        self._store, self._place = store, f"{place}/{_NAME}"
        self.file = folder / _NAME
        """The private half on this host, once `public` was asked for."""

    def public(self) -> str:
        """Return the public half, and have the private one on this host."""
        private, public = self._store.read(self._place), self._store.read(f"{self._place}.pub")
        if private and public:
            self._write(private, public)
            return public.strip()
        public = ssh.make_key(self.file)
        self._store.write(f"{self._place}.pub", public)
        self._store.write(self._place, self.file.read_text(encoding="ascii"))
        return public

    def forget(self) -> None:
        """Remove it from the state and from this host."""
        for name in (self._place, f"{self._place}.pub"):
            self._store.delete(name)
        self.file.unlink(missing_ok=True)
        self.file.with_suffix(".pub").unlink(missing_ok=True)

    def _write(self, private: str, public: str) -> None:
        if not self.file.exists() or self.file.read_text(encoding="ascii") != private:
            write_atomically(self.file, private)
            write_atomically(self.file.with_suffix(".pub"), public, mode=0o644)
