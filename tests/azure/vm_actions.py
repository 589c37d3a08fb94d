"""What is done to virtual machines: power, disks while they run, a look at them."""

from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.disks import DISK, refuse_owned
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import bad_request, conflict
from tests.azure.resources import VIEWS, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.vm_rules import VM, check_size, refuse_without_capacity
from tests.azure.vms import finish_detach, own_disk
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

_PATH = path_of(VM)


def _vm(fake: "Fake", call: Call) -> Resource:
    return fake.world.get(call.path.rsplit("/", 1)[0])


def _power(fake: "Fake", resource: Resource, state: str) -> None:
    with fake.world.lock:
        fake.world.secret(resource["id"])["power"] = state
        for one in resource["properties"]["storageProfile"]["dataDisks"]:
            own_disk(fake, resource, fake.world.get(one["managedDisk"]["id"]))


@route("POST", _PATH + "/start", routing.COMPUTE)
def _start(fake: "Fake", call: Call) -> Reply:
    vm = _vm(fake, call)
    refuse_while_busy(fake, vm["id"])
    if fake.world.secret(vm["id"]).get("generalized"):
        raise conflict("OperationNotAllowed", "The VM has been generalized.")
    size = vm["properties"]["hardwareProfile"]["vmSize"]
    if fake.world.secret(vm["id"])["power"] == "deallocated":
        check_size(fake, size, vm["location"], but=vm["id"])

    def work() -> None:
        if fake.world.secret(vm["id"])["power"] == "running":
            return
        refuse_without_capacity(fake, size)
        fake.machines.start(fake.machine(vm))
        _power(fake, vm, "running")

    return _begin(fake, call, vm, work)


def _stopper(state: str) -> Any:
    def stop(fake: "Fake", call: Call) -> Reply:
        vm = _vm(fake, call)
        refuse_while_busy(fake, vm["id"])

        def work() -> None:
            fake.machines.stop(fake.machine(vm))
            _power(fake, vm, state)

        return _begin(fake, call, vm, work)

    return stop


route("POST", _PATH + "/deallocate", routing.COMPUTE)(_stopper("deallocated"))
route("POST", _PATH + "/powerOff", routing.COMPUTE)(_stopper("stopped"))


@route("POST", _PATH + "/generalize", routing.COMPUTE)
def _generalize(fake: "Fake", call: Call) -> Reply:
    vm = _vm(fake, call)
    refuse_while_busy(fake, vm["id"])
    hidden = fake.world.secret(vm["id"])
    if hidden["power"] == "running":
        raise conflict("OperationNotAllowed", "The VM must be stopped before it is generalized.")
    hidden["generalized"] = True
    return Reply(200)


@route("POST", _PATH + "/restart", routing.COMPUTE)
def _restart(fake: "Fake", call: Call) -> Reply:
    vm = _vm(fake, call)
    refuse_while_busy(fake, vm["id"])
    if fake.world.secret(vm["id"])["power"] != "running":
        raise conflict("OperationNotAllowed", "The VM is not running.")

    def work() -> None:
        fake.machines.stop(fake.machine(vm))
        fake.machines.start(fake.machine(vm))

    return _begin(fake, call, vm, work)


def _begin(
    fake: "Fake", call: Call, vm: Resource, work: Any, detaches: tuple[str, ...] = ()
) -> Reply:
    return begin(
        fake, call, vm["id"], work, status=202, style="azure-async", slow=fake.machines.slow,
        detaches=detaches,
    )  # fmt: skip


@route(
    "POST", _PATH + "/attachDetachDataDisks", routing.COMPUTE,
    kind=("compute", "AttachDetachDataDisksRequest"),
)  # fmt: skip
def _attach_detach(fake: "Fake", call: Call) -> Reply:
    vm = _vm(fake, call)
    refuse_while_busy(fake, vm["id"])
    attach = call.body.get("dataDisksToAttach") or []
    detach = call.body.get("dataDisksToDetach") or []
    if not attach and not detach:
        raise bad_request("InvalidParameter", "neither dataDisksToAttach nor dataDisksToDetach")
    has = vm["properties"]["storageProfile"]["dataDisks"]
    gone = tuple(one["diskId"].lower() for one in detach)
    for one in gone:
        if one not in {had["managedDisk"]["id"].lower() for had in has}:
            raise bad_request("InvalidParameter", f"Disk {one} is not attached to {vm['name']}.")
    for one in attach:
        _attach(fake, vm, one)

    def work() -> dict[str, Any]:
        finish_detach(fake, vm, gone)
        return dict(vm["properties"]["storageProfile"])

    return _begin(fake, call, vm, work, gone)


def _attach(fake: "Fake", vm: Resource, asked: dict[str, Any]) -> None:
    disk = fake.reference(asked["diskId"], DISK)
    refuse_owned(fake, disk, vm["id"])
    has = vm["properties"]["storageProfile"]["dataDisks"]
    if any(one["managedDisk"]["id"].lower() == disk["id"].lower() for one in has):
        return
    used = {one["lun"] for one in has}
    lun = asked.get("lun", next(number for number in range(64) if number not in used))
    if lun in used:
        raise bad_request("InvalidParameter", f"LUN {lun} is used by another disk.")
    has.append(
        {
            "lun": lun, "name": disk["name"], "createOption": "Attach",
            "caching": asked.get("caching", "None"), "managedDisk": {"id": disk["id"]},
            "deleteOption": asked.get("deleteOption", "Detach"), "toBeDetached": False,
        }
    )  # fmt: skip
    own_disk(fake, vm, disk)


# -- looking ---------------------------------------------------------------------------------------


def instance_view(fake: "Fake", vm: Resource) -> dict[str, Any]:
    """Return what a machine is doing."""
    state = vm["properties"].get("provisioningState", "Succeeded").lower()
    power = fake.world.secret(vm["id"])["power"]
    statuses = [
        {"code": f"ProvisioningState/{state}", "level": "Info",
         "displayStatus": f"Provisioning {state}"},
        {"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"},
    ]  # fmt: skip
    agent = "Ready" if power == "running" else "Not Ready"
    return {
        "computerName": vm["properties"]["osProfile"]["computerName"], "osName": "ubuntu",
        "vmAgent": {
            "vmAgentVersion": "2.14.0.1",
            "statuses": [{"code": "ProvisioningState/succeeded", "displayStatus": agent}],
        },
        "statuses": statuses,
    }  # fmt: skip


VIEWS[VM] = instance_view


@route("GET", _PATH + "/instanceView", routing.COMPUTE)
def _instance_view(fake: "Fake", call: Call) -> Reply:
    return Reply(200, instance_view(fake, _vm(fake, call)))


@route("POST", _PATH + "/retrieveBootDiagnosticsData", routing.COMPUTE)
def _boot_diagnostics(fake: "Fake", call: Call) -> Reply:
    vm = _vm(fake, call)
    wanted = (vm["properties"].get("diagnosticsProfile") or {}).get("bootDiagnostics") or {}
    if not wanted.get("enabled"):
        raise conflict(
            "OperationNotAllowed", "Boot diagnostics is not enabled for the virtual machine."
        )
    token = fake.console_token(vm)
    return Reply(
        200,
        {
            "consoleScreenshotBlobUri": f"{call.base}/_fake/console/{token}.bmp",
            "serialConsoleLogBlobUri": f"{call.base}/_fake/console/{token}",
        },
    )
