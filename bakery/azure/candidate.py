"""The test of a candidate: a machine is booted from it, looked at from inside, and removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakery import ssh
from bakery.azure import leftovers
from bakery.azure.clients import Clients
from bakery.azure.errors import code, explained, told
from bakery.azure.gallery import Gallery, GalleryImage
from bakery.azure.names import group_id
from bakery.azure.settings import words
from bakery.errors import BakeryError
from bakery.log import note, step
from bakery.render import PROJECT
from bakery.run import last_lines
from bakery.settings import Settings

CHECK = PROJECT / "packer" / "check-candidate.sh"
_PASSED = "candidate ok"
_ADMIN = "bakery"
# The size is not to be had now; another one may be.
_NO_SIZE = {"SkuNotAvailable", "AllocationFailed", "ZonalAllocationFailed", "QuotaExceeded"}


@dataclass(frozen=True)
class _Place:
    """A temporary resource group and what a machine in it is made with."""

    settings: Settings
    clients: Clients
    group: str
    tags: dict[str, str]
    public_key: str

    def body(self, properties: dict[str, Any], **more: Any) -> Any:
        place = {"location": self.settings.azure_location, "tags": self.tags}
        return {**place, "properties": properties, **more}

    def id_of(self, kind: str, name: str) -> str:
        subscription = group_id(self.settings).rsplit("/", 2)[0]
        return f"{subscription}/resourceGroups/{self.group}/providers/{kind}/{name}"


def test(
    settings: Settings,
    clients: Clients,
    shelf: Gallery,
    image: GalleryImage,
    *,
    group: str,
    folder: Path,
) -> None:
    """Boot a machine from a candidate and run our check in it; reject the candidate if it fails.

    `group` is what its resource group will be called; `folder` is for the key of the machine's
    login, which nobody uses.

    Raises:
        BakeryError: It did not pass, or Azure failed, which says nothing of the image.
    """
    with _place(settings, clients, group, folder) as place:
        with step("Boot a machine from it"):
            _boot(place, image)
        with step("Look at it from inside"):
            said = _run(place)
    if said.rstrip().endswith(_PASSED):
        return
    shelf.reject(image)
    raise BakeryError(
        f"{image.image} did not pass its test: it stays out of use",
        hint="./inv bake --target azure bakes another; ./inv prune --target azure removes this one",
        tail=last_lines(said),
    )


@contextmanager
def _place(settings: Settings, clients: Clients, name: str, folder: Path) -> Iterator[_Place]:
    tags = leftovers.temporary_tags()
    public = ssh.make_key(folder / "candidate_ed25519")
    group: Any = {"location": settings.azure_location, "tags": tags}
    with explained("make a temporary resource group"):
        clients.resources.resource_groups.create_or_update(name, group)
    try:
        yield _Place(settings, clients, name, tags, public)
    finally:
        with step("Remove the machine"):
            leftovers.remove(clients, name)


@explained("boot a machine from the candidate")
def _boot(place: _Place, image: GalleryImage) -> None:
    _network(place)
    sizes = words(place.settings.azure_vm_sizes)
    for size in sizes:
        if _start(place, image, size, last=size == sizes[-1]):
            return
        note(f"{size} is not to be had: trying the next size")


def _start(place: _Place, image: GalleryImage, size: str, *, last: bool) -> bool:
    from azure.core.exceptions import HttpResponseError

    machines = place.clients.compute.virtual_machines
    try:
        machines.begin_create_or_update(
            place.group, "candidate", _machine(place, image, size)
        ).result()
    except HttpResponseError as failed:
        if code(failed) not in _NO_SIZE or last:
            raise
        machines.begin_delete(place.group, "candidate").result()
        return False
    return True


def _network(place: _Place) -> None:
    network, group = place.clients.network, place.group
    subnet = {"addressPrefix": "10.90.0.0/24", "defaultOutboundAccess": False}
    network.virtual_networks.begin_create_or_update(
        group,
        "network",
        place.body(
            {
                "addressSpace": {"addressPrefixes": ["10.90.0.0/24"]},
                "subnets": [{"name": "machines", "properties": subnet}],
            }
        ),
    ).result()
    # For the way out, which Run Command needs; without a security group nothing comes in.
    network.public_ip_addresses.begin_create_or_update(
        group,
        "address",
        place.body({"publicIPAllocationMethod": "Static"}, sku={"name": "Standard"}),
    ).result()
    inner = {
        "subnet": {
            "id": place.id_of("Microsoft.Network/virtualNetworks", "network/subnets/machines")
        },
        "publicIPAddress": {"id": place.id_of("Microsoft.Network/publicIPAddresses", "address")},
    }
    network.network_interfaces.begin_create_or_update(
        group,
        "interface",
        place.body({"ipConfigurations": [{"name": "main", "properties": inner}]}),
    ).result()


def _machine(place: _Place, image: GalleryImage, size: str) -> Any:
    interface = place.id_of("Microsoft.Network/networkInterfaces", "interface")
    login = {"path": f"/home/{_ADMIN}/.ssh/authorized_keys", "keyData": place.public_key}
    return place.body(
        {
            "hardwareProfile": {"vmSize": size},
            "storageProfile": {
                "imageReference": {"id": image.id},
                "osDisk": {"createOption": "FromImage", "deleteOption": "Delete"},
            },
            "osProfile": {
                "computerName": "candidate",
                "adminUsername": _ADMIN,
                "linuxConfiguration": {
                    "disablePasswordAuthentication": True,
                    "ssh": {"publicKeys": [login]},
                },
            },
            "networkProfile": {
                "networkInterfaces": [
                    {"id": interface, "properties": {"primary": True, "deleteOption": "Delete"}}
                ]
            },
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        }
    )


def _run(place: _Place) -> str:
    """Return what our check said in the machine."""
    from azure.core.exceptions import AzureError

    script: Any = {
        "commandId": "RunShellScript",
        "script": CHECK.read_text(encoding="utf-8").splitlines(),
    }
    machines = place.clients.compute.virtual_machines
    try:
        done = machines.begin_run_command(place.group, "candidate", script).result()
    except AzureError as failed:
        raise told("run a command in the candidate's machine", failed) from failed
    message = str(done.value[0].message) if done.value else ""
    return message.partition("[stdout]")[2].partition("[stderr]")[0]
