"""A bootable disk from a root file system: GPT, systemd-boot on an ESP, ext4; no loop devices."""

import shutil
import uuid
from pathlib import Path

from bakery.errors import BakeryError
from bakery.run import need, run

_MIB = 1024 * 1024
_ESP_START, _ESP_SIZE = 1, 127
_ROOT_START = _ESP_START + _ESP_SIZE
_ROOT_LABEL = "bakery-root"
# Newer ext4 features make the e2fsck of older machines refuse the file system.
_OLD_ENOUGH = "^orphan_file,^metadata_csum_seed"
_BOOT_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"


def write_disk(disk: Path, root: Path, *, esp: Path, size_mib: int, seed: str) -> None:
    """Write a bootable raw disk with the given root directory and loader configuration.

    `esp` holds what goes on the ESP beside the loader, the kernel and its initrd; `size_mib` is
    the size of the (sparse) disk in MiB; `seed` decides the identifiers on it.

    Raises:
        BakeryError: The root has no kernel or boot loader, or does not fit.
    """
    with disk.open("wb") as file:
        file.truncate(size_mib * _MIB)
    _partition(disk, size_mib, seed)
    _fill_esp(disk, root, esp)
    _fill_root(disk, root, size_mib, seed)


def _identifier(seed: str, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{what}"))


def _partition(disk: Path, size_mib: int, seed: str) -> None:
    tool = need("sfdisk", package="fdisk", why="it writes partition tables")
    # The backup table at the end of the disk needs a little room.
    root_size = size_mib - _ROOT_START - 1
    table = (
        f"label: gpt\nlabel-id: {_identifier(seed, 'disk')}\n"
        f"start={_ESP_START}MiB, size={_ESP_SIZE}MiB, type=U, name=esp, "
        f"uuid={_identifier(seed, 'esp')}\n"
        f"start={_ROOT_START}MiB, size={root_size}MiB, type=L, name=root, "
        f"uuid={_identifier(seed, 'root-partition')}\n"
    )
    run([tool, "--quiet", "--no-reread", "--no-tell-kernel", disk], stdin=table)


def _fill_esp(disk: Path, root: Path, esp: Path) -> None:
    why = "it writes the boot partition"
    mformat = need("mformat", package="mtools", why=why)
    mcopy = need("mcopy", package="mtools", why=why)
    mmd = need("mmd", package="mtools", why=why)
    where = f"{disk}@@{_ESP_START * _MIB}"
    run([mformat, "-i", where, "-F", "-c", "1", "-T", str(_ESP_SIZE * 2048), "-v", "ESP", "::"])
    run([mmd, "-i", where, "::/EFI", "::/EFI/BOOT"])
    run([mcopy, "-i", where, root / _BOOT_LOADER, "::/EFI/BOOT/BOOTX64.EFI"])
    run([mcopy, "-i", where, _newest(root, "vmlinuz-*"), "::/vmlinuz"])
    run([mcopy, "-i", where, _newest(root, "initrd.img-*"), "::/initrd.img"])
    run([mcopy, "-i", where, "-s", *sorted(esp.iterdir()), "::/"])


def _newest(root: Path, pattern: str) -> Path:
    found = sorted((root / "boot").glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise BakeryError(f"the root file system has no /boot/{pattern}")
    return found[-1]


def _fill_root(disk: Path, root: Path, size_mib: int, seed: str) -> None:
    tool = need("mkfs.ext4", package="e2fsprogs", why="it writes the root file system")
    hash_seed = _identifier(seed, "hash")
    run(
        [
            *(tool, "-q", "-F", "-b", "4096", "-m", "1", "-L", _ROOT_LABEL, "-O", _OLD_ENOUGH),
            *("-U", _identifier(seed, "root"), "-d", root),
            *("-E", f"offset={_ROOT_START * _MIB},hash_seed={hash_seed}"),
            *(disk, f"{(size_mib - _ROOT_START - 1) * 256}"),
        ],
    )


def empty_identity(root: Path) -> None:
    """Remove what would make every machine from this root the same one."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (root / "etc/hostname").write_text("localhost\n", encoding="utf-8")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n", encoding="utf-8")
    (root / "etc/hostname").chmod(0o644)
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.write_text("", encoding="utf-8")
    resolver.chmod(0o644)
    shutil.rmtree(root / "var/log/apt", ignore_errors=True)
    (root / "var/log/apt").mkdir(mode=0o755)
