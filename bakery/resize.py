"""The data disk grows, on the running server where the host lets it."""

from bakery import checks
from bakery.errors import BakeryError
from bakery.log import step
from bakery.state import Generation
from bakery.targets.base import Target

_GUARD = "/usr/lib/mlflow-bakery/data-disk-guard"
_SECONDS = 300


def resize(target: Target, generation: Generation, gib: int) -> None:
    """Make the data disk so large and let the machine that runs take it.

    Raises:
        InputError: It would become smaller.
        BakeryError: The machine could not take it; what is on the disk is as it was.
    """
    with step(f"Data disk: {gib} GiB"):
        target.grow_data_disk(gib)
    _take(target, generation)


def _take(target: Target, generation: Generation) -> None:
    """Let a running machine take all of its data disk.

    Where it may not do so while it uses the disk, its server stops for some seconds.

    Raises:
        BakeryError: It could not.
    """
    if _in_machine(target, generation, [_GUARD]) == "":
        return
    with step("Restart the server on the larger disk"):
        # One call: whatever becomes of this process, systemd ends what it has begun.
        failed = _in_machine(
            target, generation, ["systemctl", "restart", "mlflow-data-disk.service"]
        )
        if failed:
            raise BakeryError(
                "the server did not take the larger disk",
                hint="its own story: ./inv logs machine",
                tail=failed,
            )
        checks.wait_ready(target.server(generation), deadline=target.settings.ready_seconds)


def _in_machine(target: Target, generation: Generation, words: list[str]) -> str:
    """Run a command as root; return nothing, or what it said when it failed."""
    done = target.execute(generation, words, timeout=_SECONDS)
    return "" if done.code == 0 else done.err.strip() or f"code {done.code}"
