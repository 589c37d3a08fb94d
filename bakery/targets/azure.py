"""The Azure target: a virtual machine of a gallery image, with Blob, in one resource group."""

from collections.abc import Iterator
from contextlib import contextmanager

from bakery import tls
from bakery.azure import plan
from bakery.azure.names import subscription
from bakery.errors import InputError
from bakery.plan import Change
from bakery.settings import Settings
from bakery.targets.azure_target import AzureTarget


def check_input(settings: Settings) -> None:
    """Refuse what can be seen to fail without a call to Azure.

    Raises:
        InputError: With what to do about it.
    """
    subscription(settings)
    if settings.hostname:
        tls.given_certificate(settings, settings.hostname)
    for path in (settings.azure_ca_bundle, settings.acme_ca, settings.acme_root):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file", hint="a file of certificates (PEM)")


def check_image(settings: Settings, image: str | None) -> None:
    """Leave it to the opened deployment: only Azure knows its images."""
    check_input(settings)
    del image


def seen(settings: Settings) -> AzureTarget:
    """Return the deployment as it is remembered, to look at; another run may be at it.

    Raises:
        InputError: Nothing is deployed under this name.
    """
    subscription(settings)
    target = AzureTarget(settings, look_only=True)
    if not target.recall():
        raise _nothing(target)
    return target


@contextmanager
def opened(settings: Settings, *, new: bool = False) -> Iterator[AzureTarget]:
    """Give the deployment that the settings name, and nobody else at it.

    Raises:
        InputError: It can never work, or (unless `new`) there is none; nothing was made.
        BakeryError: Another run is at it; says whose.
    """
    subscription(settings)
    target = AzureTarget(settings)
    try:
        if not target.recall() and not new and not target.begun():
            raise _nothing(target)
        yield target
    finally:
        target.close()


def exists(settings: Settings) -> bool:
    """Return whether there is anything of a deployment, whole or not."""
    subscription(settings)
    return AzureTarget(settings, look_only=True).begun()


def plan_deploy(settings: Settings, *, image: str | None, replace: bool) -> list[Change]:
    """Return what `deploy` would do, with nothing written.

    Raises:
        InputError: It would be refused.
    """
    check_input(settings)
    return plan.deploy_plan(AzureTarget(settings, look_only=True), image, replace=replace)


def plan_destroy(settings: Settings, *, with_data: bool) -> list[Change]:
    """Return what `destroy` would do, with nothing written."""
    subscription(settings)
    return plan.destroy_plan(AzureTarget(settings, look_only=True), with_data=with_data)


def _nothing(target: AzureTarget) -> InputError:
    noted = target.group.noted()
    if noted:
        return InputError(
            f"{target.settings.name} is not deployed, but was cut off: {noted}",
            hint="./inv deploy --target azure goes on; ./inv destroy --target azure clears away",
        )
    return InputError(
        f"no deployment is called {target.settings.name} in {target.azure.group}",
        hint="./inv deploy --target azure",
    )
