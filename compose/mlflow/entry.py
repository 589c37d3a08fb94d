"""Starts MLflow: waits for the migration of this start, takes the storage key from its file."""

import os
import time
from pathlib import Path

MARK = Path("/run/migration/done")
STORAGE = Path("/run/secrets/storage")


def wait_for_migration() -> None:
    """Wait until the schema is as this MLflow wants it; the server itself must never migrate."""
    while not MARK.exists():
        time.sleep(0.1)


def main() -> None:
    """Become the server."""
    wait_for_migration()
    # In the environment of this process only: not of the container, which `docker inspect` shows.
    os.environ["AZURE_STORAGE_CONNECTION_STRING"] = STORAGE.read_text(encoding="utf-8")
    os.execvp("mlflow", ["mlflow", "server"])  # noqa: S606


if __name__ == "__main__":
    main()
