"""Which operation a request is: method, path and exact api-version."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.azure.refusal import Refusal

if TYPE_CHECKING:
    from tests.azure.bodies import Kind
    from tests.azure.fake import Fake

RESOURCES = "2025-04-01"
NETWORK = "2026-03-01"
DISKS = "2026-03-02"
COMPUTE = "2026-04-01"
GALLERY = "2026-03-03"
SKUS = "2021-07-01"
STORAGE = "2026-09-01"
ROLES = "2022-04-01"
IDENTITY = "2024-11-30"
SUBSCRIPTIONS = "2022-12-01"

SUBSCRIPTION = "/subscriptions/{subscription}"
GROUP = SUBSCRIPTION + "/resourceGroups/{group}"


@dataclass(frozen=True)
class Call:
    """One request to the control plane."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    base: str
    """The URL that the caller reached us by, without a slash at its end."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the path's template names, such as the resource group."""
    version: str = ""

    @property
    def subscription(self) -> str:
        return self.names["subscription"]

    @property
    def group(self) -> str:
        return self.names["group"]

    @property
    def name(self) -> str:
        return self.names["name"]


@dataclass
class Reply:
    """The answer to a request."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[["Fake", Call], Reply]


@dataclass(frozen=True)
class Route:
    """One operation."""

    method: str
    pattern: re.Pattern[str]
    versions: tuple[str, ...]
    handler: Handler
    kind: "Kind | None"


_ROUTES: list[Route] = []


def route(
    method: str, template: str, *versions: str, kind: "Kind | None" = None
) -> Callable[[Handler], Handler]:
    """Make a function the answer to a method and a path; `kind` is what its body must be."""
    escaped = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
    # `{name:path}` also takes slashes.
    escaped = re.sub(r"\\\{(\w+):path\\\}", r"(?P<\1>.+)", escaped)
    pattern = re.compile(escaped, re.IGNORECASE)

    def make(handler: Handler) -> Handler:
        _ROUTES.append(Route(method, pattern, versions, handler, kind))
        return handler

    return make


def find(method: str, path: str, version: str) -> tuple[Route, dict[str, str]]:
    """Return the operation and the names in its path.

    Raises:
        Refusal: 404, 405, or 400 for an api-version that the operation does not have.
    """
    found = [(one, match) for one in _ROUTES if (match := one.pattern.fullmatch(path))]
    if not found:
        raise Refusal(404, "InvalidResourceType", f"no operation has the path {path}")
    found = [(one, match) for one, match in found if one.method == method]
    if not found:
        raise Refusal(405, "MethodNotAllowed", f"{method} is not supported for {path}")
    one, match = found[0]
    if one.versions and not version:
        raise Refusal(
            400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is"
            " required for all requests."
        )  # fmt: skip
    if one.versions and version not in one.versions:
        raise Refusal(
            400, "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid for {method} {path}."
            f" The supported versions are '{', '.join(one.versions)}'.",
        )  # fmt: skip
    return one, match.groupdict()
