"""Virtual machines, for generations and for training: made, stopped, deleted, given disks."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bakery.azure.context import Azure
from bakery.azure.disks import LUN
from bakery.azure.errors import code, explained, is_quota
from bakery.azure.names import Number
from bakery.azure.operations import found
from bakery.azure.wanted import Body
from bakery.errors import InputError
from bakery.log import note, warn

ADMIN = "bakery"
_MAX_CUSTOM_DATA = 65_535
_NOT_HERE = {
    "AllocationFailed",
    "OverconstrainedAllocationRequest",
    "SkuNotAvailable",
    "ZonalAllocationFailed",
}

_CHANGING = {"Creating", "Deleting", "Updating"}
_PATIENCE = 1200
"""Seconds: after that Azure itself may say what is wrong."""


@dataclass(frozen=True)
class Birth:
    """What a new machine is made of."""

    image: str
    """The full id of the gallery version."""
    interface: Callable[[], str]
    """Gives the full id of its network interface, which may have gone with a failed machine."""
    custom_data: str
    public_key: str
    sizes: list[str]
    """The first that can be had is taken."""
    disk_gib: int = 0
    """Of its own disk; 0: as large as the image's."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Beside those that every machine has."""
    identity: str = ""
    """The full id of the identity that it gets, if it gets one."""


class Machines:
    """The virtual machines of a deployment."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._vms: Any = azure.clients.compute.virtual_machines
        self._numbers: list[int] | None = None
        self._ids: dict[Number, str] = {}

    @explained("look at the machine")
    def find(self, number: Number) -> Any:
        """Return a machine as Azure knows it, or None."""
        name = self._azure.names.machine(number)
        return found(lambda: self._vms.get(self._azure.group, name, expand="instanceView"))

    @explained("look for machines")
    def numbers(self) -> list[int]:
        """Return the generations that have a machine or a network interface of ours here."""
        if self._numbers is None:
            names, group = self._azure.names, self._azure.group
            nics = self._azure.clients.network.network_interfaces
            tags = [one.tags for one in (*self._vms.list(group), *nics.list(group))]
            found_here = {names.generation(one) for one in tags if names.owns(one)}
            self._numbers = sorted(found_here - {0})
        return self._numbers

    def identity(self, number: Number) -> str:
        """Return Azure's own id of a machine, which no later one of its name has; empty: none."""
        if number not in self._ids:
            vm = self.find(number)
            self._ids[number] = str(vm.vm_id or "") if vm is not None else ""
        return self._ids[number]

    def running(self, number: Number) -> bool:
        """Return whether a machine runs."""
        vm = self.find(number)
        return vm is not None and "running" in _power(vm)

    @explained("create the machine")
    def create(self, number: Number, birth: Birth) -> None:
        """Make a machine; the next size is tried where one is not available.

        Raises:
            InputError: What it is to be told is too long for Azure.
            BakeryError: No size can be had.
        """
        self._forget(number)
        if len(birth.custom_data.encode()) > _MAX_CUSTOM_DATA:
            raise InputError(
                f"custom data has {len(birth.custom_data.encode())} bytes, Azure takes"
                f" {_MAX_CUSTOM_DATA}",
                hint="fewer users, or a shorter certificate chain",
            )
        for size, following in zip(birth.sizes, [*birth.sizes[1:], ""], strict=True):
            if self._created(number, birth, size, last=not following):
                return
            warn(f"{size} cannot be had in {self._azure.location} now: trying {following}")

    @explained("start the machine")
    def start(self, number: Number) -> None:
        """Start a machine that is stopped."""
        vm = self._settled(number)
        if vm is None or "running" not in _power(vm):
            self._run("start", self._vms.begin_start, number)

    @explained("deallocate the machine")
    def deallocate(self, number: Number) -> None:
        """Stop a machine for good; only its disk is paid for from then on."""
        vm = self._settled(number)
        if vm is not None and "deallocated" not in _power(vm):
            self._run("deallocate", self._vms.begin_deallocate, number)

    @explained("delete the machine")
    def remove(self, number: Number) -> None:
        """Delete a machine with its own disk and network interface, if it is ours."""
        names, group = self._azure.names, self._azure.group
        self._forget(number)
        vm = self._settled(number)
        if vm is not None and names.owns(vm.tags):
            self._run("delete", self._vms.begin_delete, number)
        # Usually gone with the machine; a kill may have left one that never had a machine.
        nics: Any = self._azure.clients.network.network_interfaces
        name = names.interface(number)
        nic = found(lambda: nics.get(group, name))
        if nic is not None and names.owns(nic.tags):
            self._azure.operations.insist(lambda: nics.begin_delete(group, name).result())
        disks: Any = self._azure.clients.compute.disks
        disk = found(lambda: disks.get(group, names.os_disk(number)))
        if disk is not None and names.owns(disk.tags):
            delete = partial(disks.begin_delete, group, names.os_disk(number))
            self._azure.operations.insist(lambda: delete().result())

    # -- the data disk -----------------------------------------------------------------------

    @explained("attach the data disk")
    def attach(self, number: Number, disk_id: str) -> None:
        """Give the data disk to a machine, hot; nothing to do when it has it."""
        if disk_id.lower() in self._disks_of(number):
            return
        row = {"diskId": disk_id, "lun": LUN, "caching": "None", "deleteOption": "Detach"}
        self._change_disks(number, "attach", {"dataDisksToAttach": [row]})

    @explained("detach the data disk")
    def detach(self, number: Number, disk_id: str) -> None:
        """Take the data disk from a machine; nothing to do when it does not have it."""
        if disk_id.lower() in self._disks_of(number):
            body = {"dataDisksToDetach": [{"diskId": disk_id}]}
            self._change_disks(number, "detach", body)

    def _disks_of(self, number: Number) -> set[str]:
        vm = self._settled(number)
        rows = (vm.storage_profile.data_disks or []) if vm else []
        return {one.managed_disk.id.lower() for one in rows if one.managed_disk}

    def _change_disks(self, number: Number, what: str, body: Body) -> None:
        begin = partial(self._vms.begin_attach_detach_data_disks)
        self._run(what, begin, number, body)

    def _settled(self, number: Number) -> Any:
        """Return a machine once nothing is under way at it, or None.

        A run that was killed may have begun something that it was never told of; meanwhile the
        machine is shown as it was before.
        """
        pause = max(self._azure.settings.azure_polling_seconds, 0.05)
        until = time.monotonic() + _PATIENCE
        vm = self.find(number)
        while vm is not None and vm.provisioning_state in _CHANGING and time.monotonic() < until:
            time.sleep(pause)
            vm = self.find(number)
        return vm

    # -- birth -------------------------------------------------------------------------------

    def _created(self, number: Number, birth: Birth, size: str, *, last: bool) -> bool:
        from azure.core.exceptions import HttpResponseError

        try:
            self._run(
                "create", self._vms.begin_create_or_update, number, self._body(number, birth, size)
            )
        except HttpResponseError as error:
            if last or not (code(error) in _NOT_HERE or is_quota(error)):
                raise
            self._clear(number)
            return False
        if size != birth.sizes[0]:
            note(f"the machine is a {size}")
        return True

    def _forget(self, number: Number) -> None:
        self._numbers = None
        self._ids.pop(number, None)

    def _clear(self, number: Number) -> None:
        """Delete what a failed creation left."""
        if self.find(number) is not None:
            self._run("delete", self._vms.begin_delete, number)

    def _body(self, number: Number, birth: Birth, size: str) -> Body:
        names = self._azure.names
        tags = {**names.tags(number), **birth.tags}
        disk: Body = {"diskSizeGB": birth.disk_gib} if birth.disk_gib else {}
        key = {"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": birth.public_key}
        body: Body = {
            "location": self._azure.location,
            "tags": tags,
            "properties": {
                "hardwareProfile": {"vmSize": size},
                "storageProfile": {
                    "imageReference": {"id": birth.image},
                    "osDisk": {
                        "name": names.os_disk(number),
                        "createOption": "FromImage",
                        "caching": "ReadWrite",
                        "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
                        "deleteOption": "Delete",
                        **disk,
                    },
                },
                "osProfile": {
                    "computerName": names.machine(number),
                    "adminUsername": ADMIN,
                    "customData": base64.b64encode(birth.custom_data.encode()).decode(),
                    "linuxConfiguration": {
                        "disablePasswordAuthentication": True,
                        "provisionVMAgent": True,
                        "ssh": {"publicKeys": [key]},
                    },
                },
                "networkProfile": {
                    "networkInterfaces": [
                        {
                            "id": birth.interface(),
                            "properties": {"primary": True, "deleteOption": "Delete"},
                        }
                    ]
                },
                "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
            },
        }
        if birth.identity:
            identities: dict[str, Any] = {birth.identity: {}}
            body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": identities}
        return body

    def _run(self, what: str, begin: Any, number: Number, *more: Any) -> None:
        name = self._azure.names.machine(number)
        call = partial(begin, self._azure.group, name, *more)
        self._azure.operations.run(f"{what} {name}", call)


def _power(vm: Any) -> str:
    statuses = (vm.instance_view.statuses or []) if vm.instance_view else []
    codes = [str(one.code) for one in statuses if str(one.code).startswith("PowerState/")]
    return codes[0].removeprefix("PowerState/") if codes else ""
