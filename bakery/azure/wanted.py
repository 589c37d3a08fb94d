"""How a resource should be, against how it is: made, mended, or left as it is.

What is wanted is a part of the whole: all else in a resource is somebody else's and stays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bakery.azure.names import Names
from bakery.azure.operations import as_dict, found
from bakery.errors import InputError

Body = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A resource that should be there."""

    title: str
    """For people, such as "network security group mlflow-nsg"."""
    body: Body
    get: Callable[[], Any]
    """Gives the SDK's model; ResourceNotFoundError when there is none."""
    put: Callable[[Body], Any]
    drop: Callable[[Body], Body] = lambda body: body
    """Removes from a found body what was once wanted and is no more."""

    def state(self, names: Names) -> tuple[str, Body | None]:
        """Return what has to be done, and the body to send: `create`, `change` or nothing ("").

        Raises:
            InputError: There is one of that name which is not ours.
        """
        model = found(self.get)
        if model is None:
            return "create", self.body
        if not names.owns(model.tags):
            raise InputError(
                f"{self.title} is there already and does not carry our tags: it is not touched",
                hint="set another name or azure_resource_group; or remove it if nobody needs it",
            )
        now, whole = as_dict(model, writable=True), as_dict(model)
        kept = self.drop(now)
        if kept == now and covers(whole, self.body) and not failed(whole):
            return "", None
        return "change", merged(kept, self.body)

    def ensure(self, names: Names) -> bool:
        """Make it or mend it; return whether anything had to be done.

        Raises:
            InputError: There is one of that name which is not ours.
            AzureError: Azure refuses.
        """
        _, body = self.state(names)
        if body is not None:
            self.put(body)
        return body is not None


def failed(now: Body) -> bool:
    """Return whether what was last done to a resource failed; the same body again mends it."""
    return (now.get("properties") or {}).get("provisioningState") == "Failed"


def covers(now: Any, wanted: Any) -> bool:
    """Return whether all that is wanted is so now; ids and enums have no case."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(covers(now.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        if wanted and isinstance(wanted[0], dict) and "name" in wanted[0]:
            by_name = {one.get("name"): one for one in now or []}
            return all(covers(by_name.get(one["name"]), one) for one in wanted)
        return isinstance(now, list) and sorted(map(str, now)) == sorted(map(str, wanted))
    if isinstance(wanted, str) and isinstance(now, str):
        return now.lower() == wanted.lower()
    return bool(now == wanted)


def merged(now: Any, wanted: Any) -> Any:
    """Return what is there with what is wanted put over it; rows of lists go by their names."""
    if isinstance(wanted, dict) and isinstance(now, dict):
        return {**now, **{key: merged(now.get(key), one) for key, one in wanted.items()}}
    if isinstance(wanted, list) and isinstance(now, list) and wanted:
        if not (isinstance(wanted[0], dict) and "name" in wanted[0]):
            return wanted
        ours = {one["name"]: one for one in wanted}
        kept = [merged(one, ours.pop(one["name"], {})) for one in now]
        return [*kept, *ours.values()]
    return wanted
