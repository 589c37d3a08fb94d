"""A user's host: a minimal Debian 12 with systemd, where only the clone's own files set things up.

It boots under systemd-nspawn. Two services do what a user does, one after the other, and the
machine powers itself off; what they wrote is read from its directory.
"""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bakery import network, pool, store
from bakery.bases import resolve_base
from bakery.debian import bootstrap, host_mirrors
from bakery.run import environment, run, tail
from tests.e2e.bakery import PROJECT

# As root, like every machine here: without it they fail, and say so.
pytestmark = pytest.mark.machine

SUITE = "bookworm"
PACKAGES = ["ca-certificates", "git", "init", "python3"]
DEADLINE = 1200
CLONE = "/root/mlflow-bakery"

# What a host's kernel puts into /dev, and nspawn does not.
NODES = """
mknod /dev/loop-control c 10 237
for number in $(seq 0 255); do mknod "/dev/loop$number" b 7 "$number"; done
"""
SET_UP = f"""#!/bin/sh
set -eu
{NODES}
cd {CLONE}
echo "pid 1: $(cat /proc/1/comm)"
if python3 -c 'import ensurepip' 2>/dev/null || command -v systemd-nspawn; then exit 1; fi
./inv --list
echo "== again"
./inv --list >/dev/null
echo "== tools"
./inv bake --base debian-13 --render /root/rendered
echo "== machine"
exec .venv/bin/python /root/fresh_host.py start
"""
UNIT = """[Unit]
After=network-online.target {after}
Wants=network-online.target
Requires={after}
FailureAction=poweroff
{more}
[Service]
Type=oneshot
WorkingDirectory={clone}
Environment=HOME=/root PYTHONPATH={clone}
EnvironmentFile=/root/environment
ExecStart={command}
ExecStopPost=/bin/sh -c 'echo "$SERVICE_RESULT" >/root/{name}.result'
StandardOutput=append:/root/{name}.log
StandardError=append:/root/{name}.log
[Install]
WantedBy=multi-user.target
"""
# Like the driver's own: on hosts without a unified hierarchy, nspawn is shown one.
ENTER = """
[ -e /sys/fs/cgroup/cgroup.controllers ] || {
  umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
}
exec systemd-nspawn "$@"
"""


@dataclass(frozen=True)
class Host:
    """A host after it has powered itself off."""

    root: Path

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self.root / f"root/{name}.log").read_text(encoding="utf-8")

    def result(self, name: str) -> str:
        """How a service ended; "nothing" when it was never run."""
        file = self.root / f"root/{name}.result"
        return file.read_text(encoding="ascii").strip() if file.exists() else "nothing"


@pytest.fixture(scope="module")
def host(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Boot a fresh host, let it do its work, and remove it."""
    folder = tmp_path_factory.mktemp("fresh")
    root = folder / "root"
    cache = state.absolute() / "cache/fresh-host"
    try:
        with pool.opened(state.absolute()) as disks, bridged(cache) as net:
            base = resolve_base("debian-13", cache=disks)
            run(["cp", "-a", "--reflink=auto", cached_root(cache), root])
            prepare(root, net)
            words = [f"--bind-ro={base.disk}:/srv/base.raw", *caches(cache)]
            serve(root, net, words, folder / "console.log")
        yield Host(root)
    finally:
        shutil.rmtree(folder)


def cached_root(cache: Path) -> Path:
    """Return a minimal Debian, made once; named after what it is made of."""
    mirrors = host_mirrors()
    key = store.digest([SUITE, PACKAGES, mirrors.lines(SUITE)]).removeprefix("sha256:")[:12]

    def make(part: Path) -> None:
        bootstrap(
            SUITE, part / "root", PACKAGES, mirrors=mirrors, log=cache / "root.log",
            variant="minbase",
        )  # fmt: skip

    return store.build(cache / key, make) / "root"


def caches(cache: Path) -> list[str]:
    """Bind what was downloaded by the tests before: it saves time and changes nothing."""
    pairs = {"pip": "/srv/pip", "apt": "/var/cache/apt/archives"}
    for name in pairs:
        (cache / name / "partial").mkdir(parents=True, exist_ok=True)
    return [f"--bind={cache / name}:{place}" for name, place in pairs.items()]


def prepare(root: Path, net: network.Network) -> None:
    """Put the clone, the services and this host's ways to its package registries into a root."""
    run(["git", "clone", "--quiet", f"file://{PROJECT}", f"{root}{CLONE}"])
    shutil.copyfile(Path(__file__).with_name("fresh_host.py"), root / "root/fresh_host.py")
    script = root / "root/set-up"
    script.write_text(SET_UP, encoding="utf-8")
    script.chmod(0o755)
    check = f"{CLONE}/.venv/bin/python /root/fresh_host.py check"
    plant_unit(root, "set-up", "/root/set-up")
    plant_unit(root, "check", check, after="set-up.service", more="SuccessAction=poweroff")
    (root / "etc/systemd/network/10-host0.network").write_text(
        f"[Match]\nName=host0\n[Network]\nAddress={net.management(0)}/{net.prefix}\n"
        f"Gateway={net.gateway}\n",
        encoding="ascii",
    )
    run(["systemctl", f"--root={root}", "enable", "systemd-networkd", "set-up", "check"])
    share_registries(root)


def plant_unit(root: Path, name: str, command: str, *, after: str = "", more: str = "") -> None:
    text = UNIT.format(name=name, command=command, clone=CLONE, after=after, more=more)
    (root / f"etc/systemd/system/{name}.service").write_text(text, encoding="utf-8")


def share_registries(root: Path) -> None:
    """Let a root reach the package registries as this host does: resolver, certificates, pip."""
    resolved = Path("/run/systemd/resolve/resolv.conf")
    resolver = resolved if resolved.exists() else Path("/etc/resolv.conf")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copyfile(resolver, root / "etc/resolv.conf")
    files = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")]
    files += [Path.home() / ".config/pip/pip.conf"]
    for file in filter(Path.exists, files):
        inside = root / file.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, inside)
    ours = {"PATH", "HOME", "TERM", "TMPDIR", "USER", "SSH_AUTH_SOCK"}
    passed = {name: text for name, text in environment().items() if name not in ours}
    passed["PIP_CACHE_DIR"] = "/srv/pip"
    lines = [f'{name}="{text}"\n' for name, text in passed.items()]
    (root / "root/environment").write_text("".join(lines), encoding="utf-8")


@contextmanager
def bridged(cache: Path) -> Iterator[network.Network]:
    """Lend a network whose name is the cache's, so that what a killed test left is found."""
    name = "bk" + store.digest(str(cache)).removeprefix("sha256:")[:8]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        network.take_down(name)
        net = network.allot(name)
        try:
            yield net
        finally:
            network.take_down(net.name)


def serve(root: Path, net: network.Network, words: list[str], console: Path) -> None:
    """Run the host until it powers off."""
    command = [
        # In a process namespace: nspawn's own child would outlive a killed nspawn.
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", ENTER, "sh",
        "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
        f"--directory={root}", f"--machine={net.name}", f"--network-bridge={net.name}",
        "--capability=all", "--drop-capability=CAP_SYS_TIME",
        "--system-call-filter=@keyring bpf @known",
        "--link-journal=no", "--resolv-conf=off", "--timezone=off", *words,
    ]  # fmt: skip
    with console.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
        )
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        logs = [tail(root / f"root/{name}.log") for name in ("set-up", "check")]
        raise AssertionError("\n".join([tail(console), *logs])) from None
    finally:
        process.kill()
        process.wait()


def test_the_clone_sets_itself_up(host: Host) -> None:
    log = host.log("set-up")
    assert host.result("set-up") == "success", log
    first, again, tools = re.split(r"== \w+\n", log)[:3]
    assert "pid 1: systemd" in first
    assert "installing with apt-get: python3-venv" in first
    assert "setting up .venv from requirements.txt" in first
    assert re.search(r"^  up +Bake if needed", first, re.MULTILINE)
    # Said is what is done, and done once.
    assert again == ""
    assert re.search("installing with apt-get: .*systemd-container.* packer ", tools)
    assert (host.root / "root/rendered/packer").is_dir()


def test_a_machine_boots_there(host: Host) -> None:
    assert re.search(r"SSH after [\d.]+ s", host.log("set-up")), host.log("set-up")


def test_the_machine_outlives_who_started_it_and_ends_whole(host: Host) -> None:
    assert host.result("check") == "success", host.log("check")
    assert "ended, nothing left" in host.log("check")
