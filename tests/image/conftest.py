"""What the suite knows of the machine before it looks inside.

Every test that shows something to be absent has a control: the same probe finds what is there.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.probes import said


@pytest.fixture(scope="session")
def facts() -> dict[str, str]:
    """What the deployment knows of this machine."""
    return dict(json.loads(Path(os.environ["BAKERY_SERVER"]).read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def manifest(facts: dict[str, str]) -> dict[str, Any]:
    """The manifest of the image that the machine was made from."""
    return dict(json.loads(Path(facts["image_manifest"]).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def containers(host: Host) -> dict[str, dict[str, Any]]:
    """What `docker inspect` says of each container of the project, by service."""
    ids = said(host, "docker ps --all --quiet --filter label=com.docker.compose.project=mlflow")
    assert ids, "no container of the project"
    found = json.loads(said(host, f"docker inspect {' '.join(ids.split())}"))
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}


@pytest.fixture(scope="module")
def running(containers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The containers that serve."""
    return {name: one for name, one in containers.items() if one["State"]["Running"]}
