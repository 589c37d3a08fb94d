"""Run in the fresh machine by the clone's own Python: boots a machine there, or looks for it.

`start` and `check` are two services: the machine must outlive the one that started it.
"""

import json
import sys
import time
from pathlib import Path

from bakery import machine, network, pool, ssh
from bakery.drivers.base import MachineSpec
from bakery.drivers.nspawn import Nspawn
from bakery.render import render
from bakery.run import run
from bakery.targets.base import SshAccess

BASE = Path("/srv/base.raw")
STATE = Path("/root/state")
NAME = "bkinside"
BOOT_SECONDS = 300


def spec(disks: Path) -> MachineSpec:
    """Return the machine of this test."""
    return MachineSpec(
        name=NAME, disk=disks / "machines" / "inside.raw", folder=STATE / "inside", bridge=NAME
    )


def login(net: network.Network) -> SshAccess:
    """Return how to log in to it."""
    return SshAccess(net.management(0), "bake", STATE / "key", STATE / "known_hosts")


def start() -> None:
    """Boot a copy of the base, wait for SSH, and leave it running."""
    net = network.allot(NAME)
    (STATE / "subnet.json").write_text(json.dumps(net.subnet), encoding="utf-8")
    public = ssh.make_key(STATE / "key")
    driver = Nspawn()
    driver.check()
    with pool.opened(STATE) as disks:
        made = spec(disks)
        pool.copy(BASE, made.disk)
        machine.write_seed(
            made,
            render("cloud-init/build-user-data.yaml.j2", public_key=public),
            render(
                "cloud-init/meta-data.yaml.j2", instance="1", hostname="inside", public_key=public
            ),
            machine.network_config(net, [net.management(0)]),
        )
        began = time.monotonic()
        machine.boot(driver, made, login(net), seconds=BOOT_SECONDS)
        say(f"SSH after {time.monotonic() - began:.1f} s")


def check() -> None:
    """Find the machine still there, in a service of its own; end it and see all of it gone."""
    net = network.Network(NAME, json.loads((STATE / "subnet.json").read_text("utf-8")))
    driver = Nspawn()
    with pool.opened(STATE) as disks:
        made = spec(disks)
        assert driver.running(made), "the machine ended with the service that started it"
        done = ssh.command(login(net), ["cat", "/etc/hostname", "/proc/1/comm"])
        assert done.stdout.split() == ["inside", "systemd"], done
        unit = f"mlflow-bakery-{NAME}.service"
        assert run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"
        check_groups(made, unit)
        driver.stop(made)
        assert not driver.running(made)
    network.take_down(net.name)
    links = run(["ip", "-brief", "link"]).stdout
    assert NAME not in links, links
    mounts = Path("/proc/self/mounts").read_text("utf-8")
    assert str(STATE) not in mounts, mounts
    loops = run(["losetup", "--noheadings", "--output", "BACK-FILE"]).stdout
    assert "inside.raw" not in loops, loops
    left = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", unit]).stdout
    assert left == "", left
    say("ended, nothing left")


def check_groups(made: MachineSpec, unit: str) -> None:
    """See the machine in the service's control group, which is free to hand on its controllers."""
    supervisor = (made.folder / "supervisor.pid").read_text("ascii").split()[0]
    groups = Path(f"/proc/{supervisor}/cgroup").read_text("ascii")
    keeper = groups.partition("0::/")[2].splitlines()[0]
    assert keeper.endswith(f"{unit}/keeper"), groups
    group = Path("/sys/fs/cgroup", keeper).parent
    assert (group / "cgroup.procs").read_text("ascii") == ""
    assert list(group.glob("payload/**/ssh.service"))


def say(text: str) -> None:
    """Say a line, for the log that the test reads."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    STATE.mkdir(exist_ok=True)
    {"start": start, "check": check}[sys.argv[1]]()
