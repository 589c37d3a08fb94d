"""Where disks lie: a folder in which a copy is a reflink, so that it takes no time and no space.

The state folder's own file system serves where it can; else an XFS file system in a sparse file
(`pool.xfs`) is mounted beside it. A copy-on-write disk must be one of these: Docker's overlay2
does not run on an overlayfs root.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bakery import signals
from bakery.disk import attached
from bakery.errors import InputError
from bakery.run import need, run

_POOL_SIZE = 96 << 30  # sparse: takes only what is written
_NEEDED = 8 << 30


@contextmanager
def opened(state: Path) -> Iterator[Path]:
    """Give the folder of the disks of a state folder, mounted while in use.

    Raises:
        InputError: The pool cannot be made or mounted.
    """
    if os.geteuid() != 0:
        raise InputError("root is needed for the disks of machines", hint="run it with sudo")
    state.mkdir(parents=True, exist_ok=True)
    if _reflinks(state):
        folder = state / "pool"
        folder.mkdir(exist_ok=True)
        yield folder
        return
    with _use(state):
        yield state / "pool"


def copy(source: Path, target: Path) -> None:
    """Copy a disk file: by reflink where the file system can, else sparsely."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    run(["cp", "--reflink=auto", "--sparse=always", source, part])
    part.replace(target)


def check_space(state: Path, needed: int = _NEEDED) -> None:
    """Refuse to begin on a nearly full disk; `needed` in bytes.

    Raises:
        InputError: Less than that is free.
    """
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free
    if free < needed:
        raise InputError(
            f"{state}: {free / 2**30:.1f} GiB free, {needed / 2**30:.0f} GiB needed",
            hint="free some space, or set BAKERY_STATE_DIR to a folder on another disk",
        )


def _reflinks(folder: Path) -> bool:
    probe = folder / f".reflink-{uuid.uuid4().hex}"
    copied = probe.with_suffix(".copy")
    probe.write_bytes(b"x" * 4096)
    try:
        done = run(["cp", "--reflink=always", probe, copied], check=False)
        return done.returncode == 0
    finally:
        probe.unlink()
        copied.unlink(missing_ok=True)


@contextmanager
def _use(state: Path) -> Iterator[None]:
    """Mount the pool, share it with other runs, and unmount it when the last one ends."""
    lock = os.open(state / "pool.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not os.path.ismount(state / "pool"):
            fcntl.flock(lock, fcntl.LOCK_EX)
            _mount(state)
            # Not atomic: another run may unmount in between, hence the loop.
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        with signals.held_back():
            _unmount_unless_used(state, lock)
            os.close(lock)


def _unmount_unless_used(state: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    if os.path.ismount(state / "pool"):
        run(["umount", state / "pool"], check=False)


def _mount(state: Path) -> None:
    pool, folder = state / "pool.xfs", state / "pool"
    folder.mkdir(exist_ok=True)
    if os.path.ismount(folder):
        return
    if not pool.exists():
        _make(pool)
    # A running machine holds the pool in a mount namespace of its own: the same loop device must
    # be mounted again, since a second loop on the file would be a second, unsynchronised XFS.
    held = run(["losetup", "--noheadings", "--output", "NAME", "--associated", pool]).stdout.split()
    with nullcontext(held[0]) if held else attached(pool) as loop:
        # nouuid: a copied state folder has a pool with the same UUID.
        # A loop of others can end right here with the last that held it: then it is tried again.
        run(["mount", "-o", "nouuid,noatime,discard", loop, folder], check=not held)


def _make(pool: Path) -> None:
    need("mkfs.xfs", package="xfsprogs", why="disks are copied by reflink")
    check_space(pool.parent)
    part = pool.with_suffix(".part")
    part.unlink(missing_ok=True)
    with part.open("wb") as file:
        file.truncate(_POOL_SIZE)
    done = run(["mkfs.xfs", "-q", "-m", "reflink=1", part], check=False)
    if done.returncode != 0:
        part.unlink()
        raise InputError(f"{pool}: no XFS file system could be made", hint=done.stderr.strip())
    part.rename(pool)
