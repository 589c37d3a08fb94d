"""Long-running operations, in each of the protocols that the SDK can poll."""

import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.azure.refusal import Refusal, conflict
from tests.azure.routing import SUBSCRIPTION, Call, Reply, route

if TYPE_CHECKING:
    from tests.azure.fake import Fake

STYLES = ("azure-async", "location", "body", "plain")
_PROTOCOL = "/subscriptions/{}/providers/{}/locations/{}/{}/{}?api-version={}"
_GERUND = {"PUT": "Creating", "PATCH": "Updating", "DELETE": "Deleting", "POST": "Updating"}


@dataclass
class Operation:
    """Something that takes its time."""

    resource: str
    """The lower-cased id of what it is at."""
    method: str
    polls: int
    """So many times the answer is that it goes on, even if it has ended."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    ended: threading.Event = field(default_factory=threading.Event)
    error: Refusal | None = None
    result: Any = None
    detaches: tuple[str, ...] = ()
    """The disks that it takes from a machine."""

    def goes_on(self) -> bool:
        """Return whether a poll is told that it goes on."""
        if not self.ended.is_set():
            return True
        self.polls -= 1
        return self.polls >= 0


def refuse_while_busy(fake: "Fake", resource_id: str) -> None:
    """Refuse to begin something at a resource where something is under way.

    Raises:
        Refusal: 409.
    """
    if fake.busy(resource_id):
        network = "/microsoft.network/" in resource_id.lower()
        code = "AnotherOperationInProgress" if network else "ConflictingConcurrentWriteNotAllowed"
        raise conflict(code, "Another operation on this or dependent resource is in progress.")


def begin(
    fake: "Fake",
    call: Call,
    resource_id: str,
    work: Callable[[], Any],
    *,
    status: int,
    style: str,
    slow: bool = False,
    detaches: tuple[str, ...] = (),
) -> Reply:
    """Begin `work` at a resource; its return value is a POST's result.

    `status` is the first answer's where it goes on; `style` is what Azure does for this operation,
    and gives way to the fake's own setting. `slow` work runs without the world's lock.
    """
    options = fake.options
    operation = Operation(resource_id.lower(), call.method, options.polls, detaches=detaches)
    fault = fake.faults.failing_operation()
    resource = fake.world.find(resource_id)
    if resource is not None:
        fresh = call.method == "PUT" and status == 201
        gerund = "Creating" if fresh else {**_GERUND, "PUT": "Updating"}[call.method]
        resource.setdefault("properties", {})["provisioningState"] = gerund
    fake.operations[operation.id] = operation
    chosen = options.style or style
    snapshot = fake.shown(resource) if resource is not None else None

    def perform() -> None:
        _perform(fake, operation, work, fault, slow=slow)

    seconds = options.seconds + fake.faults.operation_seconds()
    if slow or seconds:
        threading.Thread(target=_later, args=(seconds, perform), daemon=True).start()
        chosen = "azure-async" if chosen == "plain" else chosen
    else:
        perform()
    return _first_answer(fake, call, operation, style=chosen, status=status, snapshot=snapshot)


def _later(seconds: float, perform: Callable[[], None]) -> None:
    time.sleep(seconds)
    perform()


def _perform(
    fake: "Fake",
    operation: Operation,
    work: Callable[[], Any],
    fault: Refusal | None,
    *,
    slow: bool,
) -> None:
    try:
        _fail(fault)
        if slow:
            operation.result = work()
        else:
            with fake.world.lock:
                operation.result = work()
        state = "Succeeded"
    except Refusal as refusal:
        operation.error, state = refusal, "Failed"
    except Exception as error:  # noqa: BLE001
        # A bug of the fake, or of a machine behind it: the client must not wait for ever.
        operation.error, state = Refusal(500, "InternalExecutionError", repr(error)), "Failed"
        fake.log(traceback.format_exc())
    finally:
        with fake.world.lock:
            resource = fake.world.find(operation.resource)
            if resource is not None:
                resource["properties"]["provisioningState"] = state
        fake.world.save()
        operation.ended.set()


def _fail(fault: Refusal | None) -> None:
    if fault is not None:
        raise fault


def _first_answer(
    fake: "Fake", call: Call, operation: Operation, *, style: str, status: int, snapshot: Any
) -> Reply:
    creates = call.method in {"PUT", "PATCH"}
    if style == "body" and not creates:
        style = "location"
    if style == "plain":
        if operation.error is not None:
            raise operation.error
        body = fake.shown(fake.world.find(operation.resource)) if creates else operation.result
        return Reply(201 if status == 201 else 200, body)
    namespace = call.path.split("/providers/")[1].split("/")[0] if "/providers/" in call.path else (
        "Microsoft.Resources"
    )  # fmt: skip
    place = (fake.world.subscription, namespace, fake.options.location)
    version = call.version or "2025-04-01"

    def url(kind: str) -> str:
        return call.base + _PROTOCOL.format(*place, kind, operation.id, version)

    headers = {}
    if style == "azure-async":
        headers["Azure-AsyncOperation"] = url("operations")
        if call.method == "POST":
            headers["Location"] = url("operationResults")
    if style == "location":
        headers["Location"] = url("operationResults")
    if fake.options.retry_after:
        headers["Retry-After"] = str(fake.options.retry_after)
    return Reply(status, snapshot if creates else None, headers)


@route("GET", SUBSCRIPTION + "/providers/{namespace}/locations/{location}/operations/{name}")
def _poll(fake: "Fake", call: Call) -> Reply:
    operation = _find(fake, call)
    if operation.goes_on():
        return Reply(200, {"status": "InProgress", "name": operation.id})
    if operation.error is not None:
        return Reply(200, {"status": "Failed", "name": operation.id, **operation.error.body})
    return Reply(200, {"status": "Succeeded", "name": operation.id})


@route("GET", SUBSCRIPTION + "/providers/{namespace}/locations/{location}/operationResults/{name}")
def _result(fake: "Fake", call: Call) -> Reply:
    operation = _find(fake, call)
    if operation.goes_on():
        return Reply(
            202, None, {"Location": call.base + call.path + f"?api-version={call.version}"}
        )
    if operation.error is not None:
        raise operation.error
    if operation.method in {"PUT", "PATCH"}:
        return Reply(200, fake.shown(fake.world.get(operation.resource)))
    return Reply(200, operation.result) if operation.result is not None else Reply(204)


def _find(fake: "Fake", call: Call) -> Operation:
    found = fake.operations.get(call.name)
    if found is None:
        raise Refusal(404, "OperationNotFound", f"no operation {call.name}")
    return found
