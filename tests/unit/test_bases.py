"""The recipes of the bases, and what decides a base."""

import shutil
import tomllib
from pathlib import Path

import pytest

from bakery.bases import DEFAULT_BASE, FALLBACK_BASE, RECIPES, base_names, load_recipe, resolve_base
from bakery.errors import InputError
from bakery.pins import read_lock

_SIGNER = "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81"


def test_the_bases_are_those_of_the_documentation() -> None:
    assert base_names() == ["debian-13", "ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04"]
    assert DEFAULT_BASE == "ubuntu-20.04"
    assert load_recipe(FALLBACK_BASE).bootstrapped


@pytest.mark.parametrize("name", ["ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04"])
def test_an_ubuntu_base_says_where_it_is_and_who_signs_it(name: str) -> None:
    values = load_recipe(name).values
    assert values["releases"].startswith("https://cloud-images.ubuntu.com/releases/")
    assert values["image"] == f"{name}-server-cloudimg-amd64.img"
    assert values["signer"] == _SIGNER
    assert values["azure_urn"].startswith("Canonical:")
    assert name in dict(read_lock().ubuntu)


def test_an_unknown_base_is_refused_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no base 'ubuntu-19'") as refused:
        resolve_base("ubuntu-19", cache=tmp_path)
    assert "debian-13, ubuntu-20.04" in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_each_file_of_a_recipe_decides_the_base(tmp_path: Path) -> None:
    here = load_recipe("debian-13").digest
    folder = tmp_path / "elsewhere"
    shutil.copytree(RECIPES, folder)
    assert load_recipe("debian-13", folder).digest == here
    files = [folder / "debian-13.toml", *(folder / "debian-13").rglob("*.*")]
    assert len([file for file in files if file.is_file()]) >= 4
    for file in filter(Path.is_file, files):
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert load_recipe("debian-13", folder).digest != here, file
        file.write_bytes(before)


def test_the_kernel_finds_its_root_by_the_label_that_the_disk_gets() -> None:
    entry = (RECIPES / "debian-13/esp/loader/entries/bakery.conf").read_text(encoding="utf-8")
    assert "root=LABEL=bakery-root" in entry
    assert "console=ttyS0" in entry
    # Names of interfaces that a seed can know beforehand.
    assert "net.ifnames=0" in entry


def test_debian_is_built_from_what_a_machine_needs() -> None:
    with (RECIPES / "debian-13.toml").open("rb") as file:
        packages = tomllib.load(file)["packages"]
    assert packages == sorted(packages)
    assert {"cloud-init", "openssh-server", "linux-image-cloud-amd64", "sudo"} <= set(packages)
