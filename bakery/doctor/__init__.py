"""`doctor`: every prerequisite of a target, with what is wrong and how to mend it."""

from collections.abc import Callable, Iterable

from bakery.doctor.finding import Finding
from bakery.errors import BakeryError
from bakery.settings import Settings

Probe = Callable[[Settings], Iterable[Finding]]


def examine(settings: Settings) -> list[Finding]:
    """Look at every prerequisite of the target; nothing is made or changed."""
    # Here: the one needs no SDK, the other no root.
    if settings.target == "azure":
        from bakery.doctor.azure import probes
    else:
        from bakery.doctor.local import probes
    return [found for title, probe in probes() for found in _looked(title, probe, settings)]


def _looked(title: str, probe: Probe, settings: Settings) -> list[Finding]:
    """Return what a probe finds; one that fails is a finding, too."""
    try:
        return list(probe(settings))
    except BakeryError as failed:
        return [Finding(title, str(failed), ok=False, fix=failed.hint)]
