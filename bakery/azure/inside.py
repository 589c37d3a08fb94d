"""Commands in a machine where no SSH is open (Azure's Run Command), and its console.

Azure returns the last 4 KiB of an output. So the answer is packed in the machine and fetched in
parts; what goes in as standard input is a protected parameter, which Azure never shows.
"""

import base64
import contextlib
import gzip
import json
import secrets
import shlex
from functools import partial
from typing import Any

import requests

from bakery.azure.context import Azure
from bakery.azure.errors import explained
from bakery.azure.names import Number
from bakery.azure.operations import found
from bakery.errors import BakeryError
from bakery.run import last_lines
from bakery.targets.base import Answer

_OURS = "bakery-"
_PART = 3000
"""Bytes of one part; Azure shows 4096."""
_FOLDER = "/run/mlflow-bakery-commands"
_RUN = """
set -u; umask 077; folder={folder}/{name}; mkdir -p "$folder"; cd "$folder"
printf %s "${{BAKERY_INPUT:-}}" | base64 -d >input; unset BAKERY_INPUT
timeout {seconds} {command} <input >out 2>err; code=$?
rm input
python3 - "$code" <<'END' >answer
import base64, gzip, json, sys
texts = [open(name, encoding="utf-8", errors="replace").read() for name in ("out", "err")]
answer = json.dumps([int(sys.argv[1]), *texts]).encode()
print(base64.b64encode(gzip.compress(answer)).decode(), end="")
END
rm out err
"""
_SHOW = """
cd {folder}/{name}; size=$(stat --format %s answer)
printf '%s:' "$size"
tail --bytes +{start} answer | head --bytes {part}
[ $(({start} + {part})) -le "$size" ] || rm -r {folder}/{name}
"""


class Inside:
    """Run Command and the console of a deployment's machines."""

    def __init__(self, azure: Azure, *, alone: bool = True) -> None:
        """Begin; `alone` says that no other run can have a command under way."""
        self._azure = azure
        self._alone = alone
        self._used: set[Number] = set()
        self._commands: Any = azure.clients.compute.virtual_machine_run_commands
        self._vms: Any = azure.clients.compute.virtual_machines

    def execute(
        self, number: Number, argv: list[str], *, stdin: str | None = None, timeout: float = 180
    ) -> Answer:
        """Run a command in a machine as root; 255 when the machine does not answer."""
        values = {"folder": _FOLDER, "name": secrets.token_hex(6), "part": _PART}
        script = _RUN.format(command=shlex.join(argv), seconds=int(timeout), **values)
        show = _SHOW.format(start=1, **values)
        whole, packed = self._shown(number, script + show, stdin, timeout)
        if whole is None:
            return Answer(255, "", packed)
        while len(packed) < whole:
            more = _SHOW.format(start=len(packed) + 1, **values)
            _, part = self._shown(number, more, None, timeout)
            if not part:
                return Answer(255, "", "the answer of the machine broke off")
            packed += part
        return unpacked(packed)

    @explained("read the machine's console")
    def console(self, number: Number) -> str:
        """Return the end of what the machine wrote to its console; empty when there is nothing."""
        name = self._azure.names.machine(number)
        call = partial(self._vms.retrieve_boot_diagnostics_data, self._azure.group, name)
        data = found(call)
        address = data.serial_console_log_blob_uri if data else None
        if not address:
            return ""
        bundle = self._azure.settings.azure_ca_bundle
        try:
            answer = requests.get(address, timeout=20, verify=str(bundle) if bundle else True)
        except requests.RequestException:
            return ""
        return last_lines(answer.content.decode("utf-8", "replace"), 25) if answer.ok else ""

    @explained("run a command in the machine")
    def _shown(
        self, number: Number, script: str, stdin: str | None, timeout: float
    ) -> tuple[int | None, str]:
        """Run a script and return the size of the whole answer and the part that it shows."""
        from azure.core.exceptions import AzureError

        vm, name = self._azure.names.machine(number), f"{_OURS}{secrets.token_hex(4)}"
        group = self._azure.group
        self._used.add(number)
        properties: dict[str, Any] = {
            "source": {"script": script},
            "timeoutInSeconds": int(timeout) + 60,
            "asyncExecution": False,
        }
        if stdin is not None:
            value = base64.b64encode(stdin.encode()).decode()
            properties["protectedParameters"] = [{"name": "BAKERY_INPUT", "value": value}]
        body = {"location": self._azure.location, "properties": properties}
        put = partial(self._commands.begin_create_or_update, group, vm, name, body)
        try:
            self._azure.operations.insist(lambda: put().result())
            done = self._commands.get_by_virtual_machine(group, vm, name, expand="instanceView")
            view = done.instance_view
        finally:
            # Nobody has to wait for that; what it misses, the end of the run sees.
            with contextlib.suppress(AzureError):
                self._commands.begin_delete(group, vm, name, polling=False)
        size, colon, part = (view.output or "").partition(":")
        if not colon or not size.isdecimal():
            return None, str(view.error or view.execution_message or "no answer")
        return int(size), part

    def finish(self) -> None:
        """See that no command is left in a machine: this run's, or one's that was killed."""
        for number in self._used if self._alone else ():
            with contextlib.suppress(BakeryError):
                self._clear(number)

    @explained("delete old commands of the machine")
    def _clear(self, number: Number) -> None:
        group, vm = self._azure.group, self._azure.names.machine(number)
        listed = self._commands.list_by_virtual_machine
        for one in found(lambda: list(listed(group, vm))) or []:
            if str(one.name).startswith(_OURS):
                delete = partial(self._commands.begin_delete, group, vm, str(one.name))
                self._azure.operations.run(f"forget {one.name}", delete)


def unpacked(packed: str) -> Answer:
    """Return the answer that a machine packed."""
    code, out, err = json.loads(gzip.decompress(base64.b64decode(packed)))
    return Answer(code, out, err)
