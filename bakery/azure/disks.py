"""The data disk, its snapshots, and the disks that take its place."""

from functools import partial
from typing import Any

from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.operations import as_dict, found
from bakery.azure.wanted import Body, failed
from bakery.errors import InputError

LUN = 10
"""Where machines look for the data disk: see the list in the guard's `DEVICES`."""


class Disks:
    """The disks of a deployment that outlive its generations."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._disks: Any = azure.clients.compute.disks
        self._snapshots: Any = azure.clients.compute.snapshots
        self._rows: list[Any] | None = None

    def id_of(self, name: str) -> str:
        """Return a disk's full id."""
        return self._azure.names.id_of("Microsoft.Compute/disks", name)

    @explained("look at the data disk")
    def find(self, name: str) -> Any:
        """Return a disk as Azure knows it, or None."""
        return found(lambda: self._disks.get(self._azure.group, name))

    @explained("look for disks")
    def rows(self) -> list[Any]:
        """Return all disks of the group as they were when this run first looked."""
        if self._rows is None:
            rows = self._disks.list_by_resource_group(self._azure.group)
            self._rows = found(lambda: list(rows)) or []
        return self._rows

    def known(self, name: str) -> Any:
        """Return a disk as it was when this run first looked, or None."""
        return next((one for one in self.rows() if one.name == name), None)

    def holder(self, name: str) -> str:
        """Return the name of the machine that has a disk; empty: none has."""
        disk = self.find(name)
        return disk.managed_by.split("/")[-1] if disk and disk.managed_by else ""

    @explained("make the data disk")
    def ensure(self, name: str, gib: int) -> None:
        """Make an empty disk unless there is one; a machine formats it, once.

        Raises:
            InputError: There is one of that name which is not ours.
        """
        self._ensure(name, {"createOption": "Empty"}, {"diskSizeGB": gib})

    @explained("make a disk from the snapshot")
    def ensure_from_snapshot(self, name: str, snapshot: str) -> None:
        """Make a disk that is as a snapshot is, unless it is there."""
        source = self._azure.names.id_of("Microsoft.Compute/snapshots", snapshot)
        self._ensure(name, {"createOption": "Copy", "sourceResourceId": source}, {})

    @explained("make the data disk larger")
    def grow(self, name: str, gib: int) -> None:
        """Make a disk larger, attached or not."""
        body = {"properties": {"diskSizeGB": gib}}
        begin = partial(self._disks.begin_update, self._azure.group, name, body)
        self._azure.operations.insist(lambda: begin().result())
        self._rows = None

    @explained("take a snapshot of the data disk")
    def take_snapshot(self, name: str, disk: str) -> None:
        """Copy a disk as it is, whole or not at all; only what changed is paid for."""
        begin = partial(
            self._snapshots.begin_create_or_update,
            self._azure.group,
            name,
            {
                "location": self._azure.location,
                "tags": self._azure.names.tags(),
                "sku": {"name": "Standard_LRS"},
                "properties": {
                    "creationData": {"createOption": "Copy", "sourceResourceId": self.id_of(disk)},
                    "incremental": True,
                },
            },
        )
        if found(lambda: self._snapshots.get(self._azure.group, name)) is None:
            self._azure.operations.run(f"snapshot {name}", begin)

    @explained("look for snapshots")
    def snapshots(self) -> list[str]:
        """Return the names of our snapshots."""
        rows = self._snapshots.list_by_resource_group(self._azure.group)
        return sorted(str(one.name) for one in rows if self._azure.names.owns(one.tags))

    def all(self) -> list[str]:
        """Return the names of our data disks, those that were replaced too."""
        ours = [one for one in self.rows() if self._azure.names.owns(one.tags)]
        names = self._azure.names
        # A machine's own disk has the machine's tag, and goes with it.
        own = [one for one in ours if names.generation(one.tags) or names.is_training(one.tags)]
        return sorted(str(one.name) for one in ours if one not in own)

    @explained("delete the snapshot")
    def remove_snapshot(self, name: str) -> None:
        """Delete a snapshot, if it is there and ours."""
        snapshot = found(lambda: self._snapshots.get(self._azure.group, name))
        if snapshot is not None and self._azure.names.owns(snapshot.tags):
            begin = partial(self._snapshots.begin_delete, self._azure.group, name)
            self._azure.operations.insist(lambda: begin().result())

    @explained("delete the disk")
    def remove(self, name: str) -> None:
        """Delete a disk, if it is there and ours."""
        disk = found(lambda: self._disks.get(self._azure.group, name))
        if disk is not None and self._azure.names.owns(disk.tags):
            begin = partial(self._disks.begin_delete, self._azure.group, name)
            self._azure.operations.insist(lambda: begin().result())
        self._rows = None

    def _ensure(self, name: str, source: Body, properties: Body) -> None:
        disk = self.known(name)
        if disk is not None:
            if not self._azure.names.owns(disk.tags):
                raise InputError(
                    f"the disk {name} is there already and does not carry our tags",
                    hint="set another name or azure_resource_group; it is not touched",
                )
            if not failed(as_dict(disk)) or disk.managed_by:
                return
            # Never a smaller one: it may have grown since it was made.
            size = max(properties.get("diskSizeGB", 0), disk.disk_size_gb or 0)
            properties = {"diskSizeGB": size} if size else {}
        body = {
            "location": self._azure.location,
            "tags": self._azure.names.tags(),
            "sku": {"name": "StandardSSD_LRS"},
            "properties": {"creationData": source, **properties},
        }
        begin = partial(self._disks.begin_create_or_update, self._azure.group, name, body)
        self._azure.operations.run(f"disk {name}", begin)
        self._rows = None
