"""The workflow of the weekly refresh: its form, and its steps run in order against the fake."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bakery.settings import load
from tests.azure.login import write_az
from tests.azure.place import Place, placed, signed_in

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / ".github" / "workflows" / "refresh.yml"
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_form_is_github_s(tmp_path: Path) -> None:
    done = check_schema(FILE)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "bad.yml"
    bad.write_text(FILE.read_text().replace("runs-on:", "run-on:"))
    assert check_schema(bad).returncode != 0, "the check finds a misspelt key"


def test_actions_are_pinned_and_rights_are_few(workflow: dict[str, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert len(used) > 6
    assert [one for one in used if not PINNED.fullmatch(one)] == []
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in FILE.read_text()


def test_a_deploy_has_to_be_switched_on(workflow: dict[str, Any]) -> None:
    job = workflow["jobs"]["deploy"]
    assert job["if"] == "vars.BAKERY_DEPLOY == 'yes'"
    assert job["needs"] == "refresh"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone, as the workflow has it: its lock is written anew."""
    folder = tmp_path / "checkout"
    leave = shutil.ignore_patterns(".git", ".venv", ".bakery*", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, folder, ignore=leave, symlinks=True)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def environment(
    workflow: dict[str, Any], place: Place, state: Path, summary: Path
) -> dict[str, str]:
    """Return what a step of the workflow sees: its variables, and where the fake is."""
    known = signed_in(place.fake)
    variables = {name: known.get(name, "") for name in workflow["env"]}
    for name, text in workflow["env"].items():
        default = re.search(r"\|\| '([^']+)'", text)
        variables[name] = variables[name] or (default[1] if default else "")
    return {
        **{name: value for name, value in known.items() if name.startswith("BAKERY_")},
        **variables,
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/root"),
        "BAKERY_STATE_DIR": str(state),
        "BAKERY_CONTAINER_SOURCE": "packages",
        "BAKERY_INSTALL": "no",
        "GITHUB_STEP_SUMMARY": str(summary),
    }


def test_its_steps_in_order(
    workflow: dict[str, Any], place: Place, checkout: Path, state: Path, tmp_path: Path
) -> None:
    """As GitHub runs them; the login is that of `az`, which azure/login leaves behind."""
    summary = tmp_path / "summary.md"
    given = environment(workflow, place, state.absolute(), summary)
    del given["AZURE_CLIENT_ID"]
    given["PATH"] = f"{write_az(place.fake, tmp_path / 'az')}:{given['PATH']}"
    steps = [step for step in workflow["jobs"]["refresh"]["steps"] if "run" in step]
    assert len(steps) == 3
    for week in range(2):
        for step in steps:
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=checkout, env=given, text=True, check=False, timeout=500,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert done.returncode == 0, f"{week} {step['name']}: {done.stdout}"
        load(target="azure")
        assert [one.state for one in place.images()] == ["good"]
    first, second = summary.read_text().split("## Nothing new")
    assert "The first image" in first
    assert place.images()[0].image in second
    assert len(place.calls("build")) == 1, "the second week has nothing to bake"
    assert place.groups() == ["mlflow-bakery"]
