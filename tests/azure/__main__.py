"""Start the fake by hand: `python -m tests.azure`. It prints what to export, then each request."""

import argparse
import shlex
import signal
import tempfile
import threading
from pathlib import Path

from tests.azure.modes import environment, light


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.azure", description=__doc__)
    parser.add_argument("--folder", type=Path, help="remember all in this folder")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--registered", action="store_true", help="as in a subscription in use")
    parser.add_argument("--cache", type=Path, default=Path(".bakery/cache"), help="for Azurite")
    asked = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="fake-azure-") as scratch, light(
        asked.folder or Path(scratch), cache=asked.cache, port=asked.port,
        registered=asked.registered, keep=asked.folder is not None, echo=True,
    ) as fake:  # fmt: skip
        # Whom a bake lets in; nothing listens there.
        told = {**environment(fake), "BAKERY_AZURE_SSH_SOURCES": "203.0.113.7"}
        for name, value in told.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# {fake.url}/_fake/log, Ctrl-C ends it", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
