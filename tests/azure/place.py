"""A fake Azure with a stand-in for Packer on PATH, and one who is signed in: for whole commands."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bakery import bake as baking
from bakery.azure.clients import Clients
from bakery.azure.gallery import Gallery, GalleryImage
from bakery.containers import ContainerImage
from bakery.settings import load
from tests.azure.fake import Fake, serving
from tests.azure.machines import NoMachines, Output
from tests.azure.stores import Stores
from tests.unit.samples import container

PROGRAM = Path(__file__).parent / "packer" / "bin" / "packer"
OURS = ("BAKERY_", "MLFLOW_", "MYSQL_", "AZURE_", "ACTIONS_")
GROUPS = "Microsoft.Resources/resourceGroups"
SECRET = "the principal's secret ${x} \"'"


@dataclass
class Place:
    """An Azure, a Packer, and one who is signed in."""

    fake: Fake
    machines: NoMachines
    bin: Path

    def packer(self, **manner: Any) -> None:
        (self.bin / "packer.json").write_text(json.dumps(manner))

    def calls(self, verb: str) -> list[list[str]]:
        log = self.bin / "packer.calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [words for words in map(json.loads, lines) if words[0] == verb]

    def images(self) -> list[GalleryImage]:
        settings = load(target="azure")
        return Gallery(settings, Clients(settings)).images()

    def groups(self) -> list[str]:
        return [one["name"] for one in self.fake.world.of_type(GROUPS)]


@contextmanager
def placed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    registered: bool = False,
    stores: Stores | None = None,
) -> Iterator[Place]:
    """Give such a place; container images are made of nothing.

    The subscription is a fresh one unless its providers are `registered`.
    """
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    (folder / "bakery.toml").touch()
    monkeypatch.setenv("BAKERY_CONFIG", str(folder / "bakery.toml"))
    monkeypatch.setenv("BAKERY_STATE_DIR", str(folder / "state"))
    archive = folder / "archive.tar"
    archive.write_bytes(b"archive")

    def containers(*_: object, **__: object) -> list[ContainerImage]:
        found = [container(name) for name in ("mysql", "traefik", "mlflow")]
        return [ContainerImage(**{**vars(one), "archive": archive}) for one in found]

    monkeypatch.setattr(baking, "resolve_containers", containers)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "packer").symlink_to(PROGRAM)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin")
    machines = NoMachines()
    machines.output = Output(out="candidate ok\n")
    with serving(machines=machines, registered=registered, stores=stores) as fake:
        for name, value in signed_in(fake).items():
            monkeypatch.setenv(name, value)
        yield Place(fake, machines, programs)


def signed_in(fake: Fake) -> dict[str, str]:
    """Return the environment of a principal with a secret."""
    return {
        "AZURE_CLIENT_ID": fake.tenant,
        "AZURE_CLIENT_SECRET": SECRET,
        "AZURE_TENANT_ID": fake.tenant,
        "AZURE_SUBSCRIPTION_ID": fake.subscription,
        "BAKERY_AZURE_BASE_URL": fake.url,
        "BAKERY_AZURE_AUTHORITY": fake.url,
        "BAKERY_AZURE_CA_BUNDLE": str(fake.ca_file),
        "BAKERY_AZURE_PRICES_URL": f"{fake.url}/api/retail/prices",
        "BAKERY_AZURE_POLLING_SECONDS": "0",
        "BAKERY_AZURE_RETRY_SECONDS": "0",
        "BAKERY_AZURE_SSH_SOURCES": "203.0.113.7",
    }
