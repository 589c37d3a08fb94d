"""The workflow of the weekly refresh: its form, and its steps run in order against the fake.

The `deploy` job runs to its end where machines are real: tests/e2e/test_azure_box.py.
"""

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

from bakery.azure.clients import Clients
from bakery.azure.gallery import Gallery, GalleryImage
from bakery.settings import load
from tests.azure import login
from tests.azure.fake import Fake
from tests.azure.modes import environment, light
from tests.e2e.bakery import INVOKE

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
    assert len(used) == 6
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
def fake(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with light(tmp_path / "azure", cache=state.absolute() / "cache") as found:
        for name, value in environment(found).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone, as the workflow has it: its lock is written anew."""
    folder = tmp_path / "checkout"
    leave = shutil.ignore_patterns(".git", ".venv", ".bakery*", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, folder, ignore=leave, symlinks=True)
    return folder


def variables(workflow: dict[str, Any], fake: Fake) -> dict[str, str]:
    """Return the workflow's variables as a repository has them, and what a job may ask with."""
    known = {**login.of_a_job(fake), "AZURE_SUBSCRIPTION_ID": fake.subscription}
    defaults = {
        name: found[1] if (found := re.search(r"\|\| '([^']+)'", text)) else ""
        for name, text in workflow["env"].items()
    }
    given = {name: value for name, value in {**defaults, **known}.items() if value}
    # Nobody has logged in with `az` there.
    return {**given, "AZURE_TOKEN_CREDENTIALS": ""}


def images() -> list[GalleryImage]:
    settings = load()
    return Gallery(settings, Clients(settings)).images()


def test_its_steps_in_order(
    workflow: dict[str, Any], fake: Fake, checkout: Path, state: Path, tmp_path: Path
) -> None:
    """As GitHub runs them, and again a week later with the same inputs."""
    summary, own = tmp_path / "summary.md", tmp_path / "state"
    own.mkdir()
    (own / "cache").symlink_to(state.absolute() / "cache")
    given = {
        **environment(fake),
        **variables(workflow, fake),
        "HOME": os.environ.get("HOME", "/root"),
        "BAKERY_STATE_DIR": str(own),
        "BAKERY_CONTAINER_SOURCE": "packages",
        "BAKERY_AZURE_SSH_SOURCES": "203.0.113.7",
        "BAKERY_INSTALL": "no",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    logged_out = fake.folder / "bin" / "logged-out"

    def run(step: dict[str, Any]) -> None:
        logged_out.touch()
        run_step(checkout, given, step)
        logged_out.unlink()

    steps = [step for step in workflow["jobs"]["refresh"]["steps"] if "run" in step]
    for step in steps:
        run(step)
    (first,) = images()
    assert first.state == "good"
    assert "The first image" in summary.read_text()
    run(steps[1])
    assert f"{first.image} is still what" in summary.read_text().partition("## Nothing new")[2]
    assert [one.image for one in images()] == [first.image]
    groups = fake.world.of_type("Microsoft.Resources/resourceGroups")
    assert [one["name"] for one in groups] == ["mlflow-bakery"]
    serve = next(step for step in workflow["jobs"]["deploy"]["steps"] if "run" in step)
    # A job in an environment has another subject, and so another credential.
    fake.trusted_subject = "repo:owner/name:environment:production"
    given["ACTIONS_ID_TOKEN_REQUEST_URL"] += "&environment=production"
    for _ in range(2):
        run(serve)
    machines = fake.world.of_type("Microsoft.Compute/virtualMachines")
    assert [one["name"] for one in machines] == ["mlflow-1"], "the second had nothing to do"
    assert "/_github/token" in {one.path for one in fake.journal.entries}


def run_step(checkout: Path, given: dict[str, str], step: dict[str, Any]) -> None:
    # Not by ./inv: it would set the environment of these very tests up from the renewed lock.
    assert step["run"].startswith("./inv ")
    command = step["run"].replace("./inv ", f"{INVOKE[0]} --search-root {checkout} ")
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=checkout, env=given, text=True, check=False, timeout=500,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{step['name']}: {done.stdout}"
