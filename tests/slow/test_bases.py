"""The bases: one built for real after a build that was killed, others from a site on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bakery.bases import RECIPES, Base, resolve_base
from bakery.disk import Partition, root_partition
from bakery.errors import InputError
from bakery.run import run
from tests.slow.ubuntu_site import IMAGE, RELEASE, Signer, Site, pin, served, write_recipe

_BUILD = "import sys, pathlib; from bakery.bases import resolve_base as r; "
_BUILD += "r('debian-13', cache=pathlib.Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def killed(cache: Path) -> Path:
    """Start a build and kill it, and it alone, once packages are being unpacked."""
    builder = subprocess.Popen([sys.executable, "-c", _BUILD, str(cache)])
    deadline = time.monotonic() + 120
    while not list(cache.glob("bases/.debian-13-*.part/root/usr/bin/dpkg")):
        assert builder.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline, "the build unpacked nothing"
        time.sleep(0.1)
    children = [line for line in _processes(cache) if "mmdebstrap" in line]
    assert children, "no child to outlive the build: the search below would prove nothing"
    builder.send_signal(signal.SIGKILL)
    builder.wait(10)
    return cache


@pytest.fixture(scope="module")
def debian(killed: Path) -> Base:
    return resolve_base("debian-13", cache=killed)


def _processes(folder: Path) -> list[str]:
    """Return the command lines that name a folder, and the roots below it that a process has."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            root = str((process / "root").readlink())
        except OSError:
            continue
        if int(process.name) != os.getpid() and (str(folder) in words or str(folder) in root):
            found.append(f"{process.name} {words} {root}")
    return found


def test_a_killed_build_leaves_nothing(killed: Path) -> None:
    deadline = time.monotonic() + 5
    while _processes(killed) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _processes(killed) == []
    assert str(killed) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert not list(killed.glob("bases/debian-13-*/"))


def test_the_next_build_gives_a_disk_that_boots(debian: Base) -> None:
    assert not list(debian.disk.parent.parent.glob(".*.part"))
    found = root_partition(debian.disk)
    assert found.offset + found.size > debian.disk.stat().st_size - (2 << 20), (
        "the root is not last"
    )
    listed = run(["mdir", "-i", f"{debian.disk}@@1M", "-/", "-b", "::/"]).stdout.split()
    assert {
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/vmlinuz",
        "::/initrd.img",
        "::/loader/loader.conf",
        "::/loader/entries/bakery.conf",
    } <= set(listed)
    # A file system inside a file, as the tools of ext4 name one.
    root = f"{debian.disk}?offset={found.offset}"
    run(["e2fsck", "-f", "-n", root])
    superblock = run(["dumpe2fs", "-h", root]).stdout
    assert "bakery-root" in superblock
    assert "extent" in superblock
    assert "orphan_file" not in superblock
    _check_root(root)


def _check_root(root: str) -> None:
    assert _debugfs(root, "cat /etc/machine-id") == ""
    keys = _debugfs(root, "ls -p /etc/ssh")
    assert "sshd_config" in keys
    assert "ssh_host_" not in keys
    assert "nameserver" not in _debugfs(root, "cat /etc/resolv.conf")
    assert _debugfs(root, "cat /etc/hostname") == "localhost\n"
    assert "LABEL" not in _debugfs(root, "cat /etc/fstab")
    wanted = _debugfs(root, "ls -p /etc/systemd/system/multi-user.target.wants")
    assert "systemd-networkd.service" in wanted
    assert "ssh.service" in wanted
    config = _debugfs(root, "cat /etc/cloud/cloud.cfg.d/90-bakery-base.cfg")
    assert "datasource_list: [Azure, NoCloud, None]" in config


def _debugfs(image: str, command: str) -> str:
    return run(["debugfs", "-R", command, image]).stdout


def test_a_base_in_the_cache_takes_no_time(debian: Base, killed: Path) -> None:
    before = debian.disk.stat()
    began = time.monotonic()
    again = resolve_base("debian-13", cache=killed)
    assert time.monotonic() - began < 0.5
    assert again == debian
    assert debian.disk.stat() == before
    facts = json.loads((debian.disk.parent / "base.json").read_text(encoding="utf-8"))
    assert facts["packages"]["cloud-init"]


@dataclass(frozen=True)
class World:
    """Recipes of a test, a cache with nothing but Debian in it, and an unresolved lock."""

    recipes: Path
    cache: Path
    lock: Path
    signer: Signer
    site: Site

    def resolve(self, name: str | None) -> Base:
        return resolve_base(name, cache=self.cache, recipes=self.recipes, lock=self.lock)

    @property
    def kept(self) -> list[Path]:
        return list((self.cache / "bases").glob("*ubuntu*/"))


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Signer]]:
    home = tmp_path_factory.mktemp("gpg")
    pair = Signer(home / "a", "publisher"), Signer(home / "b", "stranger")
    yield pair
    for signer in pair:
        signer.close()


@pytest.fixture
def world(signers: tuple[Signer, Signer], debian: Base, tmp_path: Path) -> World:
    recipes, cache, disk = tmp_path / "recipes", tmp_path / "cache", tmp_path / "disk"
    recipes.mkdir()
    shutil.copy(RECIPES / "debian-13.toml", recipes)
    shutil.copytree(RECIPES / "debian-13", recipes / "debian-13")
    (cache / "bases").mkdir(parents=True)
    entry = debian.disk.parent
    (cache / "bases" / entry.name).symlink_to(entry)
    with disk.open("wb") as file:
        file.truncate(8 << 20)
    table = "label: gpt\nstart=1MiB, size=4MiB, type=L\n"
    run(["sfdisk", "--quiet", disk], stdin=table)
    site = Site(tmp_path / "site", signers[0], disk)
    return World(recipes, cache, pin(tmp_path / "lock.toml", "", ""), signers[0], site)


def test_a_signed_image_becomes_a_raw_disk(world: World) -> None:
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        base = world.resolve(None)
        assert (base.name, base.fallback) == ("ubuntu-20.04", "")
        assert base.source == f"{url}/releases/release-{RELEASE}/{IMAGE}"
        assert base.digest == f"sha256:{world.site.sha256}"
    assert root_partition(base.disk) == Partition(1, 1 << 20, 4 << 20)
    began = time.monotonic()
    assert world.resolve(None) == base
    assert world.resolve("ubuntu-20.04") == base
    assert time.monotonic() - began < 0.5


def test_a_pinned_release_has_the_pinned_checksum(world: World) -> None:
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        pin(world.lock, RELEASE, "1" * 64)
        with pytest.raises(InputError, match="another checksum than the lock"):
            world.resolve("ubuntu-20.04")
        pin(world.lock, RELEASE, world.site.sha256)
        assert world.resolve("ubuntu-20.04").digest == f"sha256:{world.site.sha256}"


@pytest.mark.parametrize("name", [None, "ubuntu-20.04"])
def test_an_altered_image_is_refused(world: World, name: str | None) -> None:
    image = world.site.release / IMAGE
    content = image.read_bytes()
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        with pytest.raises(InputError, match="is not the image that was published"):
            world.resolve(name)
    assert world.kept == []


def test_a_truncated_image_is_refused(world: World) -> None:
    with served(world.site.folder, cut_short=True) as url:
        write_recipe(world.recipes, url, world.signer)
        with pytest.raises(InputError, match="did not come whole"):
            world.resolve("ubuntu-20.04")
    assert world.kept == []


def test_changed_checksums_are_refused(world: World) -> None:
    sums = world.site.release / "SHA256SUMS"
    sums.write_text(sums.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        with pytest.raises(InputError, match=f"not signed by {world.signer.fingerprint}"):
            world.resolve(None)


def test_a_stranger_s_signature_is_refused(world: World, signers: tuple[Signer, Signer]) -> None:
    stranger = signers[1]
    stranger.sign(world.site.release / "SHA256SUMS")
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        with pytest.raises(InputError, match="not signed by"):
            world.resolve("ubuntu-20.04")
        # In the keyring, but not the one that signs images.
        recipe = (world.recipes / "ubuntu-20.04.toml").read_text(encoding="utf-8")
        recipe = recipe.replace(str(world.signer.keyring), str(stranger.keyring))
        (world.recipes / "ubuntu-20.04.toml").write_text(recipe, encoding="utf-8")
        with pytest.raises(InputError, match="not signed by"):
            world.resolve("ubuntu-20.04")


def _nowhere() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_named_base_out_of_reach_is_refused(world: World) -> None:
    write_recipe(world.recipes, _nowhere(), world.signer)
    with pytest.raises(InputError, match="no connection") as refused:
        world.resolve("ubuntu-20.04")
    assert "--base debian-13" in refused.value.hint


def test_the_default_falls_back_once(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    write_recipe(world.recipes, _nowhere(), world.signer)
    base = world.resolve(None)
    assert (base.name, base.requested) == ("debian-13", "ubuntu-20.04")
    assert "no connection" in base.fallback
    assert capfd.readouterr().err.count("debian-13 takes the place of ubuntu-20.04") == 1
    began = time.monotonic()
    assert world.resolve(None) == base
    assert time.monotonic() - began < 0.5
    assert capfd.readouterr().err == ""


def test_a_site_without_the_image_falls_back(world: World) -> None:
    shutil.rmtree(world.site.release)
    with served(world.site.folder) as url:
        write_recipe(world.recipes, url, world.signer)
        assert "the answer is 404" in world.resolve(None).fallback
