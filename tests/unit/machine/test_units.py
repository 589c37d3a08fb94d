"""The units, as text; systemd itself looks at them in tests/slow/test_debian11.py."""

import ast
import configparser
import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.machine.samples import ROOT

FILES = ROOT / "packer/files"
UNITS = sorted((FILES / "etc/systemd/system").glob("*.service"))
STARTED_BY_A_TIMER = "mlflow-backup.service"
SERVER = [unit for unit in UNITS if unit.name != STARTED_BY_A_TIMER]
SCRIPTS = sorted(path for path in (FILES / "usr/lib/mlflow-bakery").iterdir() if path.is_file())


def read(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FILES / "etc/systemd/system" / name)
    return parser


@pytest.mark.parametrize("unit", SERVER, ids=lambda unit: unit.name)
def test_a_unit_waits_for_its_environment_and_is_enabled(unit: Path) -> None:
    found = read(unit.name)
    assert found["Unit"]["ConditionPathExists"] == "/etc/mlflow-bakery/environment.json"
    assert found["Install"]["WantedBy"] == "multi-user.target"
    assert found["Service"]["RemainAfterExit"] == "yes"
    assert "console" in found["Service"]["StandardError"]


def test_a_backup_is_made_each_day_and_a_missed_one_made_up() -> None:
    timer, unit = read("mlflow-backup.timer"), read(STARTED_BY_A_TIMER)
    assert timer["Timer"]["OnCalendar"] == "*-*-* 02:30:00"
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"
    enabled = (ROOT / "packer/provision/30-files.sh").read_text()
    assert "systemctl enable" in enabled
    assert "mlflow-backup.timer" in enabled
    assert unit["Service"]["ExecStart"] == "/usr/lib/mlflow-bakery/backup daily"
    # It must be able to start again the next day.
    assert "RemainAfterExit" not in unit["Service"]
    assert unit["Service"]["Restart"] == "on-failure"


def test_nothing_starts_without_the_data_disk() -> None:
    unit = read("mlflow.service")["Unit"]
    for other in ("docker.service", "mlflow-data-disk.service"):
        assert other in unit["Requires"]
        assert other in unit["After"]


def test_the_guard_waits_for_ever_and_the_server_is_tried_again() -> None:
    assert read("mlflow-data-disk.service")["Service"]["TimeoutStartSec"] == "infinity"
    assert read("mlflow.service")["Service"]["Restart"] == "on-failure"
    assert read("mlflow.service")["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_images_are_never_pulled() -> None:
    text = (FILES / "etc/systemd/system/mlflow.service").read_text()
    assert "--pull never" in text
    assert "--no-build" in text


@pytest.mark.parametrize(
    "module", sorted((FILES / "usr").rglob("*.py")) + SCRIPTS, ids=lambda path: path.name
)
def test_the_python_of_ubuntu_2004_reads_it(module: Path) -> None:
    ast.parse(module.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_can_be_run_and_are_used(script: Path) -> None:
    assert os.access(script, os.X_OK)
    name = script.name
    assert any(f"/usr/lib/mlflow-bakery/{name}" in unit.read_text() for unit in UNITS)


@pytest.mark.parametrize(
    "script",
    [*sorted((ROOT / "packer/provision").glob("*.sh")), ROOT / "compose/mysql/entry.sh"],
    ids=lambda script: script.name,
)
def test_shell_scripts_parse_and_stop_at_the_first_failure(script: Path) -> None:
    text = script.read_text()
    assert "\nset -eu" in text
    shell = text.splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", str(script)], check=True)
