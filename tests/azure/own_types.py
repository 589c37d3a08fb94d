"""Bodies that no package of ours has typed dictionaries for, in the same form."""

from typing import Any, Required

from typing_extensions import TypedDict


class ResourceGroup(TypedDict, total=False):
    location: Required[str]
    tags: dict[str, str]
    managedBy: str
    properties: dict[str, Any]
    # Read only; a group that was read and changed brings them back.
    id: str
    name: str
    type: str


class ResourceGroupPatchable(TypedDict, total=False):
    name: str
    tags: dict[str, str]
    managedBy: str
    properties: dict[str, Any]


class Identity(TypedDict, total=False):
    location: Required[str]
    tags: dict[str, str]
    properties: dict[str, Any]
    id: str
    name: str
    type: str


class RoleAssignmentProperties(TypedDict, total=False):
    roleDefinitionId: Required[str]
    principalId: Required[str]
    principalType: str
    description: str
    condition: str
    conditionVersion: str
    delegatedManagedIdentityResourceId: str
    scope: str


class RoleAssignment(TypedDict, total=False):
    properties: Required[RoleAssignmentProperties]
    id: str
    name: str
    type: str


class DnsNames(TypedDict, total=False):
    name: Required[str]
