"""The resource group and what the subscription must know before anything can be made in it."""

from bakery import ssh
from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import found
from bakery.errors import BakeryError, InputError

_PROVIDERS = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.Storage")
_IDENTITIES = "Microsoft.ManagedIdentity"
_REGISTER_SECONDS = 600


class Group:
    """The resource group; several deployments and other things may be in it."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._groups = azure.clients.resources.resource_groups
        self._providers = azure.clients.resources.providers

    @explained("look at the resource group")
    def exists(self) -> bool:
        """Return whether it is there, in the region that is set.

        Raises:
            InputError: It is in another region.
        """
        group = found(lambda: self._groups.get(self._azure.group))
        if group is not None and group.location != self._azure.location:
            raise InputError(
                f"the resource group {self._azure.group} is in {group.location},"
                f" not in {self._azure.location}",
                hint=f"set azure_location to {group.location}, or another azure_resource_group",
            )
        return group is not None

    @explained("make the resource group")
    def ensure(self) -> None:
        """Make it when it is not there; one of somebody else's is used as it is."""
        if not self.exists():
            body = {"location": self._azure.location, "tags": self._azure.names.owner_tags}
            self._groups.create_or_update(self._azure.group, body)

    @explained("register the resource providers")
    def register_providers(self) -> None:
        """Register what the subscription does not know yet, and wait for it.

        The SDK's own registration does not work for long operations.

        Raises:
            BakeryError: It took too long.
        """
        missing = self.missing_providers()
        for name in missing:
            self._providers.register(name)
        pause = max(self._azure.settings.azure_polling_seconds, 0.05)
        for name in missing:
            if not ssh.wait(
                lambda one=name: self._registered(one),  # type: ignore[misc]
                seconds=_REGISTER_SECONDS,
                pause=pause,
            ):
                raise BakeryError(
                    f"{name} was not registered within {_REGISTER_SECONDS} s",
                    hint=f"az provider show --namespace {name}; then run it again",
                )

    def missing_providers(self) -> list[str]:
        """Return the resource providers that are needed and not registered."""
        wanted = list(_PROVIDERS)
        if self._azure.settings.azure_artifact_access == "identity":
            wanted.append(_IDENTITIES)
        return [name for name in wanted if not self._registered(name)]

    @explained("delete the resource group")
    def remove_if_empty(self) -> bool:
        """Delete it when it is ours and nothing is left in it; return whether it is gone."""
        group = found(lambda: self._groups.get(self._azure.group))
        if group is None:
            return True
        if not self._azure.names.owner_tags.items() <= (group.tags or {}).items():
            return False
        resources = self._azure.clients.resources.resources
        if next(iter(resources.list_by_resource_group(self._azure.group)), None) is not None:
            return False
        self._groups.begin_delete(self._azure.group).result()
        return True

    # -- what is under way before there is a state -------------------------------------------

    @explained("note on the resource group what is under way")
    def note(self, what: str) -> None:
        """Say in a tag what is being done to a deployment; empty: nothing."""
        group = found(lambda: self._groups.get(self._azure.group))
        if group is None:
            return
        tags = dict(group.tags or {})
        before = dict(tags)
        tags.pop(self._tag, None)
        if what:
            tags[self._tag] = what[:256]
        if tags != before:
            self._groups.update(self._azure.group, {"tags": tags})

    @explained("look at the resource group")
    def noted(self) -> str:
        """Return what is being done to the deployment, or was when it was cut off."""
        group = found(lambda: self._groups.get(self._azure.group))
        return (group.tags or {}).get(self._tag, "") if group else ""

    @property
    def _tag(self) -> str:
        return f"mlflow-bakery-{self._azure.names.settings.name}"

    def _registered(self, name: str) -> bool:
        return self._providers.get(name).registration_state == "Registered"
