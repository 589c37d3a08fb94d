"""Baking: from a base, container images and our files to an image with a manifest."""

from collections.abc import Callable
from pathlib import Path

from bakery import bake_local, packer, ssh
from bakery.azure import bake as azure_bake
from bakery.azure import recipe as azure_recipe
from bakery.bases import DEFAULT_BASE
from bakery.containers import resolve_containers
from bakery.errors import InputError
from bakery.log import step
from bakery.manifest import Manifest
from bakery.recipe import Inputs, write_recipe
from bakery.render import render
from bakery.settings import Settings
from bakery.state import write_atomically


def bake(
    settings: Settings,
    *,
    force: bool = False,
    keep: bool = False,
    prove: Callable[[Settings, Manifest], None] | None = None,
) -> Manifest:
    """Return the image that the settings and the project's files make, baked unless it is there.

    `force` bakes anew; `keep` leaves the machine of a failed bake running, to look inside. A new
    image counts once `prove` has ended without an error; on Azure it has its own test always.

    Raises:
        InputError: It cannot be baked from here; nothing was made.
        BakeryError: A step failed; nothing is left running (unless `keep`).
    """
    on_azure = settings.target == "azure"
    if on_azure:
        azure_bake.check(settings)
    else:
        bake_local.check(settings)
    with step("Container images"):
        containers = resolve_containers(
            settings.container_source,
            cache=settings.state_dir.absolute() / "cache",
            registry=settings.registry,
            tls_verify=settings.registry_tls_verify,
            mlflow_lock=settings.mlflow_lock,
        )
    if on_azure:
        return azure_bake.bake(settings, containers, force=force)
    made = bake_local.bake(settings, containers, force=force, keep=keep, good=prove is None)
    if prove is None or made.state == "good":
        return made
    return bake_local.promoted(settings, made, prove)


def render_only(settings: Settings, folder: Path) -> None:
    """Write every file that a bake would hand to Packer, and end.

    Raises:
        InputError: The folder holds something that is not from here; nothing was changed.
    """
    folder = folder.absolute()
    mark = folder / "build-user-data.yaml"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise InputError(f"{folder} is not empty", hint="name a folder that is not there yet")
    inputs = _example(settings, folder)
    _packer, version = packer.find_packer()
    write_recipe(folder / "packer", inputs, version)
    public = "ssh-ed25519 KEY mlflow-bakery"
    text = render("cloud-init/build-user-data.yaml.j2", public_key=public)
    write_atomically(mark, text, mode=0o644)


def _example(settings: Settings, folder: Path) -> Inputs:
    base = settings.base or DEFAULT_BASE
    nothing: dict[str, Path] = {}
    if settings.target == "azure":
        source = azure_recipe.example(settings, base)
        return Inputs(base, nothing, "{}\n", source="azure-arm", target="azure", azure=source)
    access = bake_local.build_access(folder, "192.0.2.2")
    ssh.make_key(access.key)
    return Inputs(base, nothing, "{}\n", ssh=access)
