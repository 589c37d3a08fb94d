"""No test sees the settings of whoever runs it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery.drivers.base import MachineSpec
from tests.unit import world

_OURS = ("BAKERY_", "MLFLOW_", "MYSQL_", "AZURE_")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.upper().startswith(_OURS)]:
        monkeypatch.delenv(name)
    empty = tmp_path_factory.getbasetemp() / "empty.toml"
    empty.touch()
    monkeypatch.setenv("BAKERY_CONFIG", str(empty))


@pytest.fixture
def modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the steps of a replacement act on the model in tests/unit/world.py."""
    world.put_in(monkeypatch)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that is not there yet."""
    folder = tmp_path / "state"
    monkeypatch.setenv("BAKERY_STATE_DIR", str(folder))
    return folder


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., MachineSpec]:
    """Make machines that are only described."""

    def make(name: str = "bktest-1") -> MachineSpec:
        disk = tmp_path / f"{name}.raw"
        disk.touch()
        return MachineSpec(name=name, disk=disk, folder=tmp_path / name, bridge="bktest")

    return make
