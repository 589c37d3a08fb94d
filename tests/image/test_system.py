"""The machine: its units, its data disk, what listens, how much it logs."""

import re

import pytest
from testinfra.host import Host

from tests.image.probes import DATA, lines, said


def test_cloud_init_is_done(host: Host) -> None:
    # 2 means recoverable errors, such as a deprecated key in the distribution's own files.
    done = host.run("timeout 60 cloud-init status --wait --long")
    assert done.rc in {0, 2}, done.stdout
    assert re.search(r"^status: done$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("unit", ["docker", "mlflow-data-disk", "mlflow-standby", "mlflow", "ssh"])
def test_unit_is_active(unit: str, host: Host) -> None:
    assert said(host, f"systemctl is-active {unit}.service") == "active"


def test_the_server_comes_back_after_a_reboot(host: Host) -> None:
    probe = "systemctl is-enabled %s"
    assert said(host, probe % "mlflow.service") == "enabled"
    assert said(host, probe % "docker.service") == "enabled"


def test_no_unit_failed(host: Host) -> None:
    assert failed_units(host) == []
    unit = "bakery-check-control.service"
    try:
        assert host.run(f"systemd-run --quiet --wait --unit={unit} false").rc != 0
        assert failed_units(host) == [unit]
    finally:
        host.run(f"systemctl reset-failed {unit}")


def failed_units(host: Host) -> list[str]:
    rows = lines(host, "systemctl list-units --state=failed --plain --no-legend --no-pager")
    return [row.split()[0] for row in rows]


def test_the_right_data_disk_is_mounted(host: Host, facts: dict[str, str]) -> None:
    source, kind, options = said(
        host, f"findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS --mountpoint {DATA}"
    ).split()
    assert kind == "ext4"
    assert {"rw", "nodev", "nosuid", "noexec"} <= set(options.split(","))
    # A low-level probe: a cache might still tell of another disk.
    assert said(host, f"blkid -p -s UUID -o value {source}") == facts["data_disk_uuid"]
    root = said(host, "findmnt --noheadings --output SOURCE --mountpoint /").split()[0]
    assert source != root


def test_the_data_is_on_the_data_disk(host: Host) -> None:
    probe = "findmnt --noheadings --output TARGET --target "
    assert said(host, probe + f"{DATA}/mysql/data/mysql.ibd") == DATA
    assert said(host, probe + "/usr/share/mlflow-bakery") == "/"
    assert said(host, probe + "/var/lib/mlflow-spool") == "/"


def test_only_ssh_and_the_door_listen(host: Host) -> None:
    # Docker may forward 80 and 443 without a listener; the scan from outside sees those.
    found = {kind: listening(host, kind) for kind in ("tcp", "udp")}
    assert "22" in found["tcp"]
    assert found["tcp"] <= {"22", "80", "443"}
    # A DHCP client's.
    assert found["udp"] <= {"68", "546"}


def listening(host: Host, kind: str) -> set[str]:
    """Return the ports that listen on more than loopback."""
    rows = lines(host, f"ss --no-header --listening --numeric --{kind}")
    places = [row.split()[3].rpartition(":") for row in rows]
    # An address may carry its interface: 127.0.0.53%lo.
    return {port for address, _, port in places if not address.startswith(("127.", "[::1]"))}


def test_nobody_logs_in_with_a_password(host: Host) -> None:
    settings = dict(row.split(" ", 1) for row in lines(host, "sshd -T") if " " in row)
    assert settings["passwordauthentication"] == "no"
    assert settings["permitrootlogin"] == "no"
    assert settings["pubkeyauthentication"] == "yes"


def test_the_journal_is_bounded(host: Host) -> None:
    config = said(host, "systemd-analyze cat-config systemd/journald.conf")
    assert re.search(r"^SystemMaxUse=\d+M$", config, re.MULTILINE)
    # The control: the same probe does not take a commented default for a setting.
    assert not re.search(r"^SystemKeepFree=", config, re.MULTILINE)
    assert "SystemKeepFree=" in config
