"""Which QEMU is new enough, and what its source does to the host's apt."""

from pathlib import Path

import pytest

from bakery.debian import host_mirrors
from bakery.drivers import qemu_host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an archive of its own, and a QEMU that says its version."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "preferences.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    for name in ("FIRMWARE", "VARIABLES"):
        (tmp_path / name).touch()
        monkeypatch.setattr(qemu_host, name, tmp_path / name)
    monkeypatch.setattr(qemu_host, "_APT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("7.2.19 (Debian 1:7.2+dfsg-7+deb12u18)", False),
        ("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", True),
        ("11.0.0", True),
        ("unknown", False),
    ],
)
def test_the_version_decides(host: Path, version: str, enough: bool) -> None:
    _program(host / qemu_host.QEMU, f"echo 'QEMU emulator version {version}'")
    assert qemu_host.found() is enough


def test_its_firmware_is_needed_too(host: Path) -> None:
    _program(host / qemu_host.QEMU, "echo 'QEMU emulator version 10.0.2'")
    (host / "VARIABLES").unlink()
    assert not qemu_host.found()


def test_the_source_changes_nothing_else(host: Path) -> None:
    """Neither what is installed unasked nor where Debian is fetched from."""
    before = host_mirrors(host)
    text = qemu_host.source("bookworm-backports", before.main)
    (host / "sources.list.d/ours.sources").write_text(text)
    assert host_mirrors(host) == before
    assert "URIs: http://mirror.example/debian\n" in text
    assert "Pin-Priority: 100\n" in qemu_host.pin("bookworm-backports")


def test_a_source_out_of_reach_is_taken_back(
    host: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _program(host / "apt-cache", "echo '  Candidate: 1:7.2+dfsg-7'")
    _program(host / "apt-get", f"test ! -e {host}/sources.list.d/mlflow-bakery-backports.sources")
    monkeypatch.setattr(qemu_host, "host_mirrors", lambda: host_mirrors(host))
    assert qemu_host.main(["install"]) == 1
    assert "apt-get failed" in capfd.readouterr().err
    assert list((host / "sources.list.d").iterdir()) == []
    assert list((host / "preferences.d").iterdir()) == []
