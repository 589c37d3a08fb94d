"""Places in the machine, and how its tests ask it."""

from testinfra.host import Host

RUN = "/run/mlflow-bakery"
DATA = "/var/lib/mlflow-data"
SHARE = "/usr/share/mlflow-bakery"


def said(host: Host, command: str) -> str:
    """Return what a command prints; it must succeed."""
    done = host.run(command)
    assert done.rc == 0, f"{command}: code {done.rc}, {done.stderr.strip()[:300]}"
    return str(done.stdout).strip()


def lines(host: Host, command: str) -> list[str]:
    """Return the lines that a command prints; it must succeed."""
    return said(host, command).splitlines()
