"""`up` and `check`: the whole way, and the proof that it serves."""

from bakery import checks, targets
from bakery.bake import bake
from bakery.deploy import deploy
from bakery.errors import BakeryError, InputError
from bakery.log import note, step
from bakery.settings import Settings
from bakery.status import room_left
from bakery.targets.base import Server


def up(settings: Settings) -> Server:
    """Bake if needed, deploy, and check what serves.

    Raises:
        InputError: Something given or missing makes it impossible; nothing was made.
        BakeryError: A step or a check failed.
    """
    targets.check_input(settings)  # not after the minutes of a bake
    with step("Bake"):
        manifest = bake(settings)
    with step("Deploy"):
        server = deploy(settings, image=manifest.id)
    failed = [result for result in check_server(settings) if not result.ok]
    if failed:
        raise BakeryError(
            f"{len(failed)} checks failed: {', '.join(one.name for one in failed)}",
            hint="./inv check shows each",
            tail="\n".join(f"{one.name}: {one.detail}" for one in failed),
        )
    return server


def check_server(settings: Settings) -> list[checks.CheckResult]:
    """Check what runs now: from outside over HTTPS, and inside with testinfra.

    Raises:
        InputError: Nothing is deployed, or it is stopped.
    """
    with targets.opened(settings) as target:
        server, current = target.server(), target.deployment.generation
        if current is None or not target.running(current):
            raise InputError(f"{server.name} is stopped", hint="./inv start")
        room_left(target, current)
        access = server.access
        inside = [] if access else checks.check_by_command(target, current)
        manifest = target.manifest_file(current) if access else None
    with step("Check: HTTPS from outside"):
        cache = settings.state_dir.absolute() / "cache"
        results = checks.check_server(server.as_client, cache=cache)
    if manifest is None:
        note("no SSH is open: a short list was looked at inside by one command")
        return results + inside
    with step("Check: inside the machine (testinfra)"):
        return results + checks.check_machine(server, manifest)
