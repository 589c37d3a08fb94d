"""The larger programs of a stand-in machine: `docker`, and the machine's own backup tool.

The tool and what copies to Blob are the real ones; only MySQL is not: a dump tells of what the
stand-in's data disk holds.
"""

import json
import os
import runpy
import sys
from pathlib import Path

_PROJECT = Path(__file__).parents[2]
_MACHINE = _PROJECT / "packer/files/usr/lib/mlflow-bakery"
_BLOB = _PROJECT / "compose/mlflow/blob.py"
sys.path.insert(0, str(_MACHINE))

from mlflow_bakery_machine import backup_tool  # noqa: E402
from mlflow_bakery_machine.backup import Places  # noqa: E402
from mlflow_bakery_machine.environment import read_environment  # noqa: E402
from mlflow_bakery_machine.render import backups_container, storage_access  # noqa: E402

_SERVICES = ("mysql", "mlflow", "traefik")
REVISION = "r1"


def docker(root: Path, words: list[str]) -> int:
    """Do what is asked of docker."""
    text = " ".join(words)
    if words[0] == "ps":
        print("".join(f"mlflow-{one}-1\tUp 2 minutes (healthy)\n" for one in _SERVICES), end="")
    elif words[0] == "logs":
        name = words[-1]
        print(f"2026-11-26T10:00:00Z {name} on standard output")
        print(f"2026-11-26T10:00:01Z {name} on standard error", file=sys.stderr)
        print(f"2026-11-26T10:00:02Z {name} was asked: {text}")
    elif "mysqldump" in words:
        _dump(root / "var/lib/mlflow-data")
    elif "blob" in words:
        return _blob(root, words[words.index("blob") + 1 :])
    return 0


def _dump(data: Path) -> None:
    try:
        names = json.loads((data / "experiments.json").read_text(encoding="utf-8"))
    except OSError:
        names = ["Default"]
    rows = {"experiments": names, "runs": [], "alembic_version": [REVISION]}
    for table, values in rows.items():
        print(f"CREATE TABLE `{table}` (")
        if values:
            print(f"INSERT INTO `{table}` VALUES " + ",".join(f"('{one}')" for one in values))
    print("-- Dump completed")


def _blob(root: Path, words: list[str]) -> int:
    environment = read_environment(root / "var/lib/mlflow-data/environment.json")
    assert environment is not None
    storage = root / "run/mlflow-bakery/storage"
    storage.write_text(storage_access(environment), encoding="utf-8")
    blob = runpy.run_path(str(_BLOB))
    values = blob["main"].__globals__
    values["STORAGE"] = storage
    values["FOLDER"] = root / "var/lib/mlflow-data/backups/store"
    os.environ["BACKUPS"] = backups_container(environment.storage.container)
    return int(blob["main"](words))


def backup(root: Path, words: list[str]) -> int:
    """Do what is asked of the backup tool, in the machine's own folders."""
    mounted = root / "var/lib/mlflow-data"
    # Without its disk a machine has an empty folder there, which is not in the disk's way.
    below = root / "var/lib/mlflow-below"
    places = Places(
        data=mounted if mounted.exists() else below,
        share=root / "usr/share/mlflow-bakery",
        lock=root / "run/mlflow-backup.lock",
    )
    places.share.mkdir(parents=True, exist_ok=True)
    for name, found in (("schema", {"mlflow": "3.14"}), ("images", {"mysql": {"version": "8.4"}})):
        (places.share / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    vars(backup_tool)["Places"] = lambda: places
    return int(backup_tool.main(words))


def main() -> int:
    """Run one of them for the machine whose root is given."""
    program, root, *words = sys.argv[1:]
    return {"docker": docker, "backup": backup}[program](Path(root), words)


if __name__ == "__main__":
    sys.exit(main())
