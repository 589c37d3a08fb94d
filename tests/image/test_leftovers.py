"""Nothing of the build is left: no user, key, identity, history, mirror or cache of it."""

import re
from urllib.parse import urlsplit

import pytest
from testinfra.host import Host

from tests.image.probes import SHARE, lines, said

# Written by the bake, so what is newer was made on this machine.
BAKED = f"{SHARE}/images.json"
PUBLIC = re.compile(
    r"(.+\.)?(ubuntu\.com|debian\.org|download\.docker\.com|packages\.microsoft\.com)"
)


def test_no_build_user(host: Host) -> None:
    for database in ("passwd", "group"):
        assert host.run(f"getent {database} bake").rc == 2
        assert host.run(f"getent {database} root").rc == 0


def test_no_right_of_the_build_user(host: Host) -> None:
    probe = "grep --recursive --word-regexp --files-with-matches %s /etc/sudoers /etc/sudoers.d"
    assert host.run(probe % "bake").stdout == ""
    assert host.run(probe % "root").stdout != ""


@pytest.mark.parametrize(
    "path", ["/home/bake", "/tmp/bake", "/var/tmp/bake", "/etc/docker/key.json"]
)
def test_gone(path: str, host: Host) -> None:
    assert host.run(f"test -e {path}").rc == 1
    assert host.run("test -e /etc/docker/daemon.json").rc == 0


def test_identity_is_this_machines_own(host: Host) -> None:
    machine = said(host, "cat /etc/machine-id")
    assert re.fullmatch("[0-9a-f]{32}", machine)
    assert len(set(machine)) > 4
    assert lines(host, "ls /var/log/journal") == [machine]


def test_host_keys_were_made_here(host: Host) -> None:
    keys = lines(host, "sh -c 'ls /etc/ssh/ssh_host_*_key'")
    assert [key for key in keys if not newer(host, key)] == []
    assert keys
    # The control: what the image brought is older by the same probe.
    assert not newer(host, "/usr/sbin/sshd")


def test_docker_has_an_identity_of_its_own(host: Host) -> None:
    assert newer(host, "/var/lib/docker/engine-id")
    assert not newer(host, "/usr/bin/docker")


def newer(host: Host, path: str) -> bool:
    """Tell whether a file was written after the image was baked."""
    age = [int(row) for row in lines(host, f"stat --dereference --format %Y {path} {BAKED}")]
    return age[0] > age[1]


def test_no_package_lists(host: Host) -> None:
    probe = "find %s -type f ! -name lock"
    assert lines(host, probe % "/var/lib/apt/lists") == []
    assert lines(host, probe % "/var/lib/dpkg/status") != []


def test_no_mirror_or_proxy_of_the_build(host: Host) -> None:
    files = "find /etc/apt -name '*.list' -o -name '*.sources' -o -name auth.conf"
    text = "\n".join(said(host, f"cat {path}") for path in lines(host, files))
    assert strange_sources(text) == []
    assert strange_sources("deb [signed-by=/a.asc] http://10.0.0.1:3142/debian sid main") == [
        "10.0.0.1"
    ]
    assert strange_sources("URIs: https://mirror.example/ubuntu") == ["mirror.example"]
    settings = said(host, "apt-config dump")
    assert [row for row in settings.splitlines() if re.search("(?i)proxy", row)] == []
    assert "APT::Periodic" in settings


def strange_sources(text: str) -> list[str]:
    """Return the hosts in a source list that are not the distributions' own."""
    rows = [row for row in text.splitlines() if not row.lstrip().startswith("#")]
    names = [
        urlsplit(url).hostname or url for url in re.findall(r"[a-z+]+://[^\s\]]+", "\n".join(rows))
    ]
    return [name for name in names if not PUBLIC.fullmatch(name)]


def test_no_history_of_the_build(host: Host) -> None:
    # What was typed on this machine since its first boot is its owner's.
    probe = "find /root /home /etc/skel -name '%s' ! -newer /etc/machine-id"
    assert lines(host, probe % ".*_history") == []
    assert lines(host, probe % ".bashrc") != []


def test_cloud_init_knows_one_machine(host: Host) -> None:
    assert len(lines(host, "ls /var/lib/cloud/instances")) == 1


def test_no_swap_or_core_dump(host: Host) -> None:
    probe = "find %s -maxdepth 1 -type f"
    assert host.run(probe % "/var/lib/systemd/coredump").stdout == ""
    assert host.run(probe % "/etc/docker").stdout != ""
