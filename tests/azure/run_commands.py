"""Run Command: the classic action, and commands that are resources of their own."""

from typing import TYPE_CHECKING, Any

from tests.azure import routing
from tests.azure.operations import begin, refuse_while_busy
from tests.azure.refusal import Refusal, bad_request, conflict
from tests.azure.resources import VIEWS, check_child, new, path_of
from tests.azure.routing import Call, Reply, route
from tests.azure.vm_rules import VM
from tests.azure.world import Resource

if TYPE_CHECKING:
    from tests.azure.fake import Fake

COMMAND = f"{VM}/runCommands"
_SHOWN_BYTES = 4096


def _end(text: str) -> str:
    """Return what Azure shows of an output: the last 4 KB."""
    return text.encode()[-_SHOWN_BYTES:].decode(errors="ignore")


def _check_running(fake: "Fake", vm: Resource) -> None:
    if fake.world.secret(vm["id"])["power"] != "running":
        raise conflict(
            "OperationNotAllowed",
            "Cannot modify extensions in the VM when the VM is not running.",
        )


def _named(parameters: list[dict[str, str]] | None) -> dict[str, str]:
    return {one["name"]: one["value"] for one in parameters or []}


@route("POST", path_of(VM) + "/runCommand", routing.COMPUTE, kind=("compute", "RunCommandInput"))
def _classic(fake: "Fake", call: Call) -> Reply:
    vm = fake.world.get(call.path.rsplit("/", 1)[0])
    refuse_while_busy(fake, vm["id"])
    _check_running(fake, vm)
    if call.body["commandId"] != "RunShellScript":
        raise Refusal(404, "NotFound", f"no command {call.body['commandId']}")
    machine = fake.machine(vm)
    script = "\n".join(call.body.get("script") or [])

    def work() -> dict[str, Any]:
        done = fake.machines.run(machine, script, _named(call.body.get("parameters")))
        out, err = _end(done.out), _end(done.err)
        return {
            "value": [
                {
                    "code": "ProvisioningState/succeeded", "level": "Info",
                    "displayStatus": "Provisioning succeeded",
                    "message": f"Enable succeeded: \n[stdout]\n{out}\n[stderr]\n{err}",
                }
            ]
        }  # fmt: skip

    return begin(
        fake, call, vm["id"], work, status=202, style="azure-async", slow=fake.machines.slow
    )


@route("PUT", path_of(COMMAND), routing.COMPUTE, kind=("compute", "VirtualMachineRunCommand"))
def _put(fake: "Fake", call: Call) -> Reply:
    vm = check_child(fake, call, COMMAND)
    _check_running(fake, vm)
    refuse_while_busy(fake, call.path)
    resource, fresh = new(fake, call, COMMAND)
    values = resource["properties"]
    script = (values.get("source") or {}).get("script")
    if not script:
        raise bad_request("InvalidParameter", "properties.source.script is missing")
    given = _named(values.get("parameters")) | _named(values.pop("protectedParameters", None))
    # A command's text may hold secrets too; Azure shows it, so tests must see it.
    fake.world.put(resource)
    machine, kept = fake.machine(vm), fake.world.secret(resource["id"])
    kept["view"] = {"executionState": "Running", "exitCode": 0, "output": "", "error": ""}

    def work() -> None:
        began = fake.now()
        done = fake.machines.run(machine, script, given)
        kept["view"] = {
            "executionState": "Failed" if done.code else "Succeeded", "exitCode": done.code,
            "output": _end(done.out), "error": _end(done.err),
            "startTime": began, "endTime": fake.now(),
        }  # fmt: skip
        if done.code and values.get("treatFailureAsDeploymentFailure"):
            raise conflict("VMExtensionProvisioningError", f"the script ended with {done.code}")

    return begin(
        fake, call, resource["id"], work, status=201 if fresh else 200, style="azure-async",
        slow=fake.machines.slow,
    )  # fmt: skip


def _view(fake: "Fake", resource: Resource) -> dict[str, Any]:
    return dict(fake.world.secret(resource["id"])["view"])


VIEWS[COMMAND] = _view


@route("DELETE", path_of(COMMAND), routing.COMPUTE)
def _delete(fake: "Fake", call: Call) -> Reply:
    found = fake.world.find(call.path)
    if found is None:
        return Reply(204)
    refuse_while_busy(fake, call.path)
    path = found["id"]
    return begin(fake, call, path, lambda: fake.world.drop(path), status=202, style="azure-async")
