"""What Azure refuses of a virtual machine before anything is made."""

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from tests.azure.addresses import NIC, refuse_reserved
from tests.azure.disks import DISK, refuse_owned
from tests.azure.refusal import Refusal, bad_request, conflict
from tests.azure.world import Resource, same

if TYPE_CHECKING:
    from tests.azure.fake import Fake

VM = "Microsoft.Compute/virtualMachines"
_CUSTOM_DATA_BYTES = 65_535
_FORBIDDEN_USERS = {
    "admin", "administrator", "root", "test", "test1", "test2", "test3", "user", "user1", "user2",
    "user3", "user4", "user5", "guest", "owner", "backup", "console", "david", "john", "server",
    "sql", "support", "support_388945a0", "sys", "1", "123", "a", "actuser", "adm", "admin1",
    "admin2", "aspnet",
}  # fmt: skip


def check_names(fake: "Fake", resource: Resource) -> None:
    """Refuse names of the machine, of its host and of its user that cannot be.

    Raises:
        Refusal: 400.
    """
    profile = resource["properties"].get("osProfile") or {}
    for what, name in (("vmName", resource["name"]), ("computerName", profile.get("computerName"))):
        word = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?"
        if name is not None and not re.fullmatch(word, name):
            raise bad_request("InvalidParameter", f"The value '{name}' of {what} is not valid.")
    user = profile.get("adminUsername")
    if user is not None and user.lower() in _FORBIDDEN_USERS:
        raise bad_request("InvalidParameter", "The Admin Username specified is not allowed.")


def check_login(profile: dict[str, Any]) -> None:
    """Refuse a machine that nobody could log in to.

    Raises:
        Refusal: 400.
    """
    for key in ("computerName", "adminUsername"):
        if not profile.get(key):
            raise bad_request("InvalidParameter", f"Required parameter '{key}' is missing (null).")
    linux = profile.get("linuxConfiguration") or {}
    keys = (linux.get("ssh") or {}).get("publicKeys") or []
    place = f"/home/{profile['adminUsername']}/.ssh/authorized_keys"
    for key in keys:
        if key.get("path") != place:
            raise bad_request(
                "InvalidParameter", "Destination path for SSH public keys is currently limited to"
                f" its default value {place} due to a known issue in Linux provisioning agent."
            )  # fmt: skip
        if not re.match(r"(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/=]+", key.get("keyData", "")):
            raise bad_request("InvalidParameter", "linuxConfiguration.ssh.publicKeys.keyData")
    if not keys and not profile.get("adminPassword"):
        raise bad_request(
            "InvalidParameter", "Authentication using either SSH or by user name and password must"
            " be enabled in Linux profile."
        )  # fmt: skip


def decoded(profile: dict[str, Any], key: str = "customData") -> bytes:
    """Return the custom data of an osProfile.

    Raises:
        Refusal: 400; not base64, or too long.
    """
    try:
        data = base64.b64decode(profile.get(key) or "", validate=True)
    except binascii.Error:
        data = b"x" * (_CUSTOM_DATA_BYTES + 1)
    if len(data) > _CUSTOM_DATA_BYTES:
        raise bad_request(
            "InvalidParameter", "Custom data in OSProfile must be in Base64 encoding and with a"
            " maximum length of 87380 characters."
        )  # fmt: skip
    return data


def check_size(fake: "Fake", name: str, location: str, *, but: str = "") -> None:
    """Refuse a size that there is not, that may not be had here, or for which the quota is spent.

    `but` is the id of the machine whose own cores do not count.

    Raises:
        Refusal: 400 or 409.
    """
    size = fake.catalogue.size(name)
    if size is None:
        raise bad_request(
            "InvalidParameter", f"The value {name} provided for the VM size is not valid."
        )
    if name.lower() in fake.catalogue.not_available:
        raise conflict(
            "SkuNotAvailable",
            f"The requested VM size for resource 'Following SKUs have failed for Capacity"
            f" Restrictions: {name}' is currently not available in location '{location}'. Please"
            " try another size or deploy to a different location or different zone.",
        )
    for family in ("cores", size.family):
        used, allowed = fake.cores(family, but=but), fake.catalogue.allowed(family)
        if used + size.cores > allowed:
            raise conflict(
                "OperationNotAllowed",
                f"Operation could not be completed as it results in exceeding approved {family}"
                f" Cores quota. Additional details - Location: {location}, Current Limit:"
                f" {allowed}, Current Usage: {used}, Additional Required: {size.cores}.",
            )


def refuse_without_capacity(fake: "Fake", name: str) -> None:
    """Let an allocation fail where there is no capacity.

    Raises:
        Refusal: AllocationFailed.
    """
    if name.lower() in fake.catalogue.no_capacity:
        raise conflict(
            "AllocationFailed", "Allocation failed. We do not have sufficient capacity for the"
            " requested VM size in this region. Read more about improving likelihood of allocation"
            " success at http://aka.ms/allocation-guidance"
        )  # fmt: skip


def check_cards(fake: "Fake", resource: Resource) -> list[Resource]:
    """Return the interfaces that a machine asks for.

    Raises:
        Refusal: One is not there, in use, or reserved for another.
    """
    profile = resource["properties"].get("networkProfile") or {}
    asked = profile.get("networkInterfaces") or []
    if not asked:
        raise bad_request(
            "InvalidParameter",
            "Virtual machine must have at least one network interface.",
        )
    found = []
    for one in asked:
        card = fake.reference(one["id"], NIC)
        owner = card["properties"].get("virtualMachine")
        if owner is not None and not same(owner["id"], resource["id"]):
            raise bad_request(
                "NicInUse",
                f"Network Interface {card['id']} is used by existing resource {owner['id']}.",
            )
        refuse_reserved(fake, card, resource["id"])
        found.append(card)
    return found


def check_disks(fake: "Fake", resource: Resource) -> None:
    """Refuse data disks that cannot be attached.

    Raises:
        Refusal: Not there, another machine's, or two at one LUN.
    """
    seen: set[int] = set()
    storage = resource["properties"].get("storageProfile") or {}
    for one in storage.get("dataDisks") or []:
        if one.get("lun") is None or not 0 <= one["lun"] <= 63 or one["lun"] in seen:
            raise bad_request("InvalidParameter", f"The LUN {one.get('lun')} is not valid here.")
        seen.add(one["lun"])
        if str(one.get("createOption", "")).lower() != "attach":
            raise Refusal(501, "NotInThisFake", "data disks of a machine are attached, not made")
        disk = fake.reference((one.get("managedDisk") or {}).get("id", ""), DISK)
        if disk["location"] != resource["location"]:
            raise bad_request("InvalidParameter", f"Disk {disk['name']} is in another location.")
        refuse_owned(fake, disk, resource["id"])


def check_change(fake: "Fake", before: Resource, resource: Resource) -> None:
    """Refuse what cannot be changed of a machine that is there.

    Raises:
        Refusal: 409.
    """
    values = resource["properties"]
    profile = values.get("osProfile") or {}
    kept = fake.world.secret(before["id"])
    if "customData" in profile and decoded(profile).hex() != kept["custom_data"]:
        raise _no_change("osProfile.customData")
    for key in ("computerName", "adminUsername"):
        if key in profile and profile[key] != before["properties"]["osProfile"].get(key):
            raise _no_change(f"osProfile.{key}")
    image = (values.get("storageProfile") or {}).get("imageReference")
    if image is not None:
        had = before["properties"]["storageProfile"]["imageReference"]
        if any(str(had.get(key, "")).lower() != str(value).lower() for key, value in image.items()):
            raise _no_change("imageReference")
    asked = (values.get("networkProfile") or {}).get("networkInterfaces")
    had_cards = before["properties"]["networkProfile"]["networkInterfaces"]
    if asked is None or kept["power"] == "deallocated":
        return
    if {one["id"].lower() for one in asked} != {one["id"].lower() for one in had_cards}:
        raise conflict(
            "AddingOrDeletingNetworkInterfacesOnARunningVirtualMachineNotSupported",
            "Network interfaces cannot be added or deleted from a running virtual machine.",
        )


def _no_change(name: str) -> Refusal:
    return conflict("PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.")
