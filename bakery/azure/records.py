"""What machines left on the data disk that an older image could not read: migrations, upgrades.

Azure shows nobody what is on a disk. So the machine that serves is asked when it is let in, and a
machine that gives the disk back is asked before.
"""

import json
from typing import Any

from bakery import duty
from bakery.azure.disks import LUN
from bakery.errors import BakeryError
from bakery.state import Generation

_QUIESCE_SECONDS = 120
_FILE = "records.json"
_NAMES = ("state/migration.json", "mysql/data/mysql_upgrade_history")
_MOUNT = "/var/lib/mlflow-data"
_READ = f"""
device=/dev/disk/azure/data/by-lun/{LUN}
[ -e "$device" ] || device=/dev/disk/azure/scsi1/lun{LUN}
[ -e "$device" ] || device=/dev/mlflow-disks/data
if mountpoint -q {_MOUNT}; then
    for name; do cat "{_MOUNT}/$name" 2>/dev/null; echo; done
else
    [ -e "$device" ] || exit 9
    e2fsck -p "$device" >/dev/null 2>&1
    for name; do debugfs -R "cat /$name" "$device" 2>/dev/null; echo; done
fi
"""


class Records:
    """What is known of the data disk's content, kept in the deployment's state."""

    def __init__(self, target: Any) -> None:
        """Take the Azure target, whose machines are asked."""
        self._target = target

    def note_served(self, generation: Generation) -> None:
        """Remember what the disk is like with a generation that serves."""
        self._write({"served": self._read(generation)})

    def note_given(self, generation: Generation) -> None:
        """Remember that a generation that does not serve yet gets the disk."""
        if self._is_new(generation):
            known = self._known()
            if known.get("given") != generation.number:
                self._write({**known, "given": generation.number, "left": None})

    def note_left(self, generation: Generation) -> None:
        """Remember what a generation that never served left, before its machine is stopped."""
        known = self._known()
        new = self._is_new(generation) and known.get("given") == generation.number
        if not new or not self._target.running(generation):
            return
        try:
            duty.ask(self._target, generation, "quiesce", timeout=_QUIESCE_SECONDS)
            self._write({**known, "left": self._read(generation)})
        except BakeryError:
            return  # it does not answer: nobody knows

    def changed(self, generation: Generation) -> bool:
        """Return whether a generation left something that the one before it cannot read.

        True where nobody knows: nobody but the checks was let in by it.
        """
        known = self._known()
        if known.get("given") != generation.number:
            return False
        return known.get("left") is None or known["left"] != known.get("served")

    def _is_new(self, generation: Generation) -> bool:
        current = self._target.deployment.generation
        return current is not None and current.number != generation.number

    def _read(self, generation: Generation) -> str | None:
        words = ["sh", "-c", _READ, "sh", *_NAMES]
        answer = self._target.execute(generation, words, timeout=60)
        return answer.out if answer.code == 0 else None

    def _known(self) -> dict[str, Any]:
        return dict(json.loads(self._target.store.read(_FILE) or "{}"))

    def _write(self, known: dict[str, Any]) -> None:
        self._target.store.write(_FILE, json.dumps(known))
