"""The verbs that look before one leaps: what is missing, what it costs."""

from invoke import Context, Exit

from bakery import settings
from bakery.errors import FAILED
from bakery.verbs import verb

_TARGET = "what for: local (default) or azure"


@verb(
    target=_TARGET,
    name="the deployment (default: mlflow)",
    base="the base that would be baked from",
    json="print it as JSON",
)
def doctor(
    context: Context,
    target: str | None = None,
    name: str | None = None,
    base: str | None = None,
    json: bool = False,
) -> None:
    """Every prerequisite, with what mends it; exit code 1 when one is missing."""
    from bakery import doctor as doctors
    from bakery import tables

    found = doctors.examine(settings.load(target=target, name=name, base=base))
    tables.show_findings(found, as_json=json)
    if not all(one.ok for one in found):
        raise Exit(code=FAILED)


@verb(
    target=_TARGET,
    role="training: what a training machine costs beside it",
    json="print it as JSON",
)
def cost(
    context: Context, target: str | None = None, role: str = "server", json: bool = False
) -> None:
    """What a deployment costs a month."""
    from bakery import cost as costs
    from bakery import tables, training

    training.check_role(role)
    found = costs.cost(settings.load(target=target), role=role)
    tables.show_cost(found, as_json=json)
