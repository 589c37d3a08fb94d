"""What a deploy or a destroy on this host would do; everything is read, nothing is written."""

from typing import TYPE_CHECKING

from bakery import environment, network
from bakery.errors import BakeryError
from bakery.manifest import Manifest
from bakery.plan import Change, generation_changes

if TYPE_CHECKING:
    from bakery.targets.local import LocalTarget


def deploy_plan(target: "LocalTarget", image: Manifest, *, replace: bool) -> list[Change]:
    """Return what `deploy` would do."""
    deployment = target.deployment
    bridge = f"bk{deployment.id}"
    rows = []
    if not network.exists(bridge):
        rows.append(Change("create", f"network {bridge}, the line of its name in /etc/hosts"))
    if not target.azurite_runs():
        rows.append(Change("create", "artifact store (Azurite)"))
    if not deployment.data_disk_served:
        rows.append(Change("create", f"data disk, {target.settings.data_disk_gib} GiB"))
    why = _reason(target, image, replace=replace)
    return [*rows, *generation_changes(deployment, image.id, why, lambda n: f"machine {n}")]


def destroy_plan(target: "LocalTarget", *, with_data: bool) -> list[Change]:
    """Return what `destroy` would do."""
    rows = [Change("delete", f"machine {one.number} with its disk") for one in target.generations()]
    rows += target.training.removal_plan()
    if target.azurite_runs():
        rows.append(Change("stop", "artifact store (Azurite)"))
    if network.exists(f"bk{target.deployment.id}"):
        rows.append(Change("delete", f"network bk{target.deployment.id}"))
    if with_data and target.folder.facts.exists():
        rows.append(Change("delete", "data disk", "the runs are on it"))
        rows.append(Change("delete", "state", "artifacts, secrets and history are in it"))
    return rows


def _reason(target: "LocalTarget", image: Manifest, *, replace: bool) -> str:
    current = target.deployment.generation
    if current is None:
        return "none serves yet"
    if current.number not in {one.number for one in target.generations()}:
        return "the machine that served is gone"
    if current.image != image.id:
        return f"generation {current.number} is of {current.image}"
    if replace:
        return "asked for"
    try:
        told = environment.digest(target.environment())
    except BakeryError:
        return "its network or its secrets are gone"
    return "" if told == target.deployment.environment_digest else "the settings have changed"
