"""Start the fake by hand: `python -m tests.azure`. It prints what to export, then each request."""

import argparse
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

from tests.azure import login
from tests.azure.fake import Fake, Options, serving
from tests.azure.machines import NoMachines, Output

PACKER = Path(__file__).parent / "packer" / "bin" / "packer"


def exports(fake: Fake, az: Path) -> dict[str, str]:
    """Return what a shell exports so that the product talks to a fake."""
    return {
        "BAKERY_AZURE_SUBSCRIPTION": fake.subscription,
        "BAKERY_AZURE_TENANT": fake.tenant,
        "BAKERY_AZURE_LOCATION": fake.options.location,
        "BAKERY_AZURE_BASE_URL": fake.url,
        "BAKERY_AZURE_AUTHORITY": fake.url,
        "BAKERY_AZURE_CA_BUNDLE": str(fake.ca_file),
        "BAKERY_AZURE_PRICES_URL": f"{fake.url}/api/retail/prices",
        "BAKERY_AZURE_SSH_SOURCES": "203.0.113.7",
        "BAKERY_AZURE_POLLING_SECONDS": "0",
        "BAKERY_AZURE_RETRY_SECONDS": "0.01",
        # `az` and `packer` of ours, and the Python that they need.
        "PATH": os.pathsep.join([str(az), str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.azure", description=__doc__)
    parser.add_argument("--folder", type=Path, help="remember all in this folder")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--registered", action="store_true", help="as in a subscription in use")
    asked = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    machines = NoMachines()
    # What the check of a bake's candidate waits for; nothing runs here.
    machines.output = Output(out="candidate ok\n")
    with serving(
        asked.folder, port=asked.port, registered=asked.registered, options=Options(),
        machines=machines, keep=asked.folder is not None, echo=True,
    ) as fake:  # fmt: skip
        az = login.write_az(fake, fake.folder / "bin")
        (az / "packer").unlink(missing_ok=True)
        (az / "packer").symlink_to(PACKER)
        for name, value in exports(fake, az).items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# {fake.url}/_fake/log, Ctrl-C ends it", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
