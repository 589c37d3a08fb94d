"""Where disks lie: the probe for reflinks, copies, the space that is asked for."""

import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from bakery import pool
from bakery.errors import InputError
from bakery.run import run

_Usage = namedtuple("_Usage", "total used free")


def can_reflink(folder: Path) -> bool:
    """Ask the kernel directly."""
    (folder / "one").write_bytes(b"x" * 4096)
    words = ["cp", "--reflink=always", str(folder / "one"), str(folder / "two")]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def test_the_probe_tells_the_truth_and_leaves_nothing(tmp_path: Path) -> None:
    probed = tmp_path / "probed"
    probed.mkdir()
    assert pool._reflinks(probed) == can_reflink(tmp_path)
    assert list(probed.iterdir()) == []


def test_a_folder_that_can_reflink_needs_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_reflinks", lambda folder: folder.is_dir())
    with pool.opened(tmp_path / "state") as disks:
        assert disks.is_dir()
        assert not disks.is_mount()
    assert not (tmp_path / "state" / "pool.xfs").exists()


def test_without_root_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="root is needed") as refused:
        pool.opened(tmp_path / "state").__enter__()
    assert refused.value.hint
    assert not (tmp_path / "state").exists()


def test_the_pool_is_mounted_while_in_use_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    with pool.opened(tmp_path) as disks:
        source = disks / "source.raw"
        source.write_bytes(b"x" * (8 << 20))
        os.sync()
        pool.copy(source, disks / "new" / "copy.raw")
        assert (disks / "new" / "copy.raw").read_bytes() == source.read_bytes()
        shared = run(["filefrag", "-v", disks / "new" / "copy.raw"]).stdout
        assert "shared" in shared, "a copy takes no space"
        with pool.opened(tmp_path) as again:
            assert (again / "source.raw").exists()
        assert source.exists(), "one's end must not unmount the other's"
    assert not os.path.ismount(tmp_path / "pool")
    assert str(tmp_path) not in run(["losetup", "--list", "--noheadings"]).stdout
    with pool.opened(tmp_path) as disks:
        assert (disks / "new" / "copy.raw").exists()


def test_a_killed_copy_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"x")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        pool.copy(tmp_path / "source", tmp_path / "target")
    monkeypatch.undo()
    assert not (tmp_path / "target").exists()
    pool.copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x"


def test_a_nearly_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(9 << 30, 8 << 30, 1 << 30))
    pool.check_space(tmp_path, needed=1 << 30)
    with pytest.raises(InputError, match=r"1\.0 GiB free, 8 GiB needed") as refused:
        pool.check_space(tmp_path)
    assert "BAKERY_STATE_DIR" in refused.value.hint
