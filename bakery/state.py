"""What a deployment remembers on this host: one JSON file of facts and one of secrets."""

import contextlib
import difflib
import fcntl
import getpass
import json
import os
import secrets
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from bakery.errors import BakeryError, InputError
from bakery.log import note
from bakery.network import Network


class Generation(BaseModel):
    """One machine made from one image."""

    model_config = ConfigDict(frozen=True)

    number: int
    image: str
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    mlflow: str = ""
    """The versions of MLflow and MySQL in its image."""
    mysql: str = ""
    revision: str = ""
    """Of the database schema that its MLflow reads."""


Action = Literal["deploy", "rollback"]
Step = Literal[
    "create",
    "quiesce",
    "detach",
    "snapshot",
    "attach",
    "move",
    "activate",
    "check",
    "admit",
    "undo",
    "resume",
]
"""In their order; `undo` and `resume` take the place of `admit` when something fails before it."""


class Pending(BaseModel):
    """A replacement under way: written down before each step, so that a later run can go on."""

    action: Action
    generation: Generation
    step: Step = "create"
    started: datetime = Field(default_factory=lambda: datetime.now(UTC))
    by: str
    environment_digest: str = ""
    counts: dict[str, int] = {}
    """How many rows the tables had when the old generation had stopped."""
    discard: bool = False
    """A rollback that takes the data as they were before the newer generation."""


class Event(BaseModel):
    """A replacement that ended, in the history."""

    action: Action
    generation: int
    image: str
    mlflow: str
    revision: str
    started: datetime
    by: str
    seconds: float
    outcome: str
    """`serving`, `replaced`, `rolled back`, or `undone: ` and the reason."""


class Deployment(BaseModel):
    """A named server: everything about it but its secrets."""

    model_config = ConfigDict(extra="forbid")

    schema_: Literal[1] = Field(default=1, alias="schema")
    id: str = Field(default_factory=lambda: secrets.token_hex(3))
    name: str
    hostname: str = ""
    network: Network | None = None
    data_disk_uuid: str = Field(default_factory=lambda: str(uuid.uuid4()))
    data_disk_served: bool = False
    """Set once a machine has served from the data disk: from then on nothing may format it."""
    storage_account: str = ""
    storage_container: str = ""
    username: str = ""
    own_certificate: bool = False
    data_disk: str = ""
    """Azure: the name of the data disk that counts."""
    address: str = ""
    """Azure: the public address."""
    environment_serial: int = 0
    environment_digest: str = ""
    generation: Generation | None = None
    """The one that counts."""
    previous: Generation | None = None
    """The one before it, kept stopped for a rollback."""
    counts: dict[str, int] = {}
    """How many rows the tables had when the one before gave way."""
    last_number: int = 0
    """The highest number that a generation ever had, served or not."""
    pending: Pending | None = None
    history: list[Event] = []

    @property
    def kept(self) -> set[int]:
        """The numbers of the generations whose machines must stay."""
        pending = self.pending and self.pending.generation
        return {one.number for one in (self.generation, self.previous, pending) if one}

    def ended(self, outcome: str) -> None:
        """Say in the history how the generation that served came to its end."""
        for index, event in enumerate(self.history):
            if event.outcome == "serving":
                self.history[index] = event.model_copy(update={"outcome": outcome})


class Secrets(BaseModel):
    """What clients and machines log in with."""

    password: SecretStr
    password_hash: str
    storage_key: SecretStr
    mysql_password: SecretStr | None = None
    previous_storage_key: SecretStr | None = None
    """Still valid while MLflow is told of the new one; none otherwise."""
    users: dict[str, str] = {}
    """Everybody but the deployment's own user, with the hash of the password."""
    passwords: dict[str, SecretStr] = {}
    """The generated passwords of `users` that could not be shown to anybody."""
    check_token: SecretStr | None = None
    """Who sends it is let in before everybody else is; made with the next deploy if missing."""
    retired: list[str] = []
    """Hashes of passwords that were rotated away: a shell may still offer them as settings."""

    def logins(self, username: str) -> dict[str, str]:
        """Return all who may log in, with the hashes; `username` is the deployment's own user."""
        return {**self.users, username: self.password_hash}


class DeploymentFolder:
    """The files of one deployment below the state folder."""

    def __init__(self, state: Path, name: str) -> None:
        self.path = state.absolute() / "deployments" / name
        self.name = name
        self.facts = self.path / "deployment.json"
        self.secrets = self.path / "secrets.json"
        self.tls = self.path / "tls"
        self.azurite = self.path / "azurite"
        self.ssh_key = self.path / "ssh" / "id_ed25519"

    def machine(self, generation: int) -> Path:
        """Return the folder of one generation's machine."""
        return self.path / "machines" / str(generation)

    def load(self) -> Deployment | None:
        """Return what is remembered, or None before the first deploy.

        Raises:
            BakeryError: The file is damaged.
        """
        try:
            return Deployment.model_validate_json(self.facts.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise BakeryError(
                f"{self.facts} is damaged", hint="restore it, or remove it by hand", tail=str(error)
            ) from error

    def deployed(self) -> Deployment:
        """Return what is remembered.

        Raises:
            InputError: Nothing is deployed under this name.
        """
        found = self.load()
        if found is None:
            names = [path.parent.name for path in self.path.parent.glob("*/deployment.json")]
            near = difflib.get_close_matches(self.name, names, n=3, cutoff=0.5)
            others = near or sorted(names)[:3]
            hint = f"there is {', '.join(others)}; a new one: ./inv up" if others else "./inv up"
            raise InputError(f"no deployment is called {self.name}", hint=hint)
        return found

    def save(self, deployment: Deployment) -> None:
        """Remember the facts."""
        write_atomically(self.facts, deployment.model_dump_json(indent=2, by_alias=True) + "\n")

    def load_secrets(self) -> Secrets | None:
        """Return the secrets, or None before the first deploy.

        Raises:
            BakeryError: The file is damaged.
        """
        try:
            return Secrets.model_validate_json(self.secrets.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            # Without its details: they quote what is in the file.
            raise BakeryError(
                f"{self.secrets} is damaged", hint="restore it; without it nobody can log in"
            ) from None

    def save_secrets(self, values: Secrets) -> None:
        """Remember the secrets, readable by nobody else."""
        text = json.dumps(
            values.model_dump(), indent=2, ensure_ascii=False, default=SecretStr.get_secret_value
        )
        write_atomically(self.secrets, text + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two runs on one deployment apart.

        A refused first deploy leaves no trace: a folder that holds nothing but the lock is removed.

        Raises:
            BakeryError: Another one is at work; says which process.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+", encoding="ascii") as file:
            file.seek(0)
            holder = file.read().strip()
            if not _lock(file.fileno()):
                raise BakeryError(
                    f"{self.name} is being worked on by {holder or 'another run'}",
                    hint="wait for it to end",
                )
            if holder:  # it is written away at the end, and the lock itself ends with its process
                note(f"the last run ended without a word: {holder}")
            file.truncate(0)
            file.write(f"{whoever()}, process {os.getpid()}, since {datetime.now(UTC):%F %T} UTC")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)
                self._remove_if_unused()

    def _remove_if_unused(self) -> None:
        if [path.name for path in self.path.glob("*")] == ["lock"]:
            (self.path / "lock").unlink()
            self.path.rmdir()


def whoever() -> str:
    """Return who runs this, as user@host."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    # Another run may have removed the file after we had opened it: its lock would guard nothing.
    return os.fstat(file).st_nlink > 0


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file so that a kill leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
