"""Packer: the right program, a recipe that is always the same, and nothing it must not hold."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from bakery import packer, recipe
from bakery.errors import BakeryError, InputError
from tests.unit.samples import access, assert_golden

NEW, OLD = (1, 7, 0), (1, 6, 6)


def program(folder: Path, said: str) -> Path:
    folder.mkdir()
    path = folder / "packer"
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return folder


def test_cracklib_s_namesake_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namesake = program(tmp_path / "cracklib", "/var/cache/cracklib/cracklib_dict: 54763 words")
    ours = program(tmp_path / "hashicorp", "Packer v1.11.2\n\nYour version is out of date!")
    monkeypatch.setenv("PATH", f"{tmp_path}/nothing:{namesake}:{ours}")
    assert packer.find_packer() == (str(ours / "packer"), (1, 11, 2))
    monkeypatch.setenv("PATH", str(namesake))
    with pytest.raises(InputError, match="packer is missing") as refused:
        packer.find_packer()
    assert refused.value.hint == "apt-get install packer"


def write(folder: Path, version: tuple[int, ...] = OLD, **changes: object) -> recipe.Recipe:
    given = {
        "base": "debian-13",
        "archives": {name: Path(f"/cache/{name} ${{x}}.tar") for name in ("mysql", "traefik")},
        "images_json": "{}\n",
        "ssh": access(),
        "qemu": recipe.Qemu(
            base="/pool/base.raw",
            base_checksum="sha256:00",
            seed="/bake/seed",
            output="/bake/output",
            console="/bake/console.log",
        ),
    }
    return recipe.write_recipe(folder, recipe.Inputs(**{**given, **changes}), version)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["null", "qemu"])
def test_the_rendered_template(tmp_path: Path, source: str) -> None:
    made = write(tmp_path / "recipe", source=source)
    found = (made.folder / "template.pkr.hcl").read_text()
    assert "/cache/mysql $${x}.tar" in found, "a path is no template"
    for place, name in ((made.folder, "RECIPE"), (recipe.PROVISION, "PROVISION")):
        found = found.replace(str(place), name)
    assert_golden(f"{source}.pkr.hcl", found)


def test_plugins_are_asked_for_only_where_packer_has_them_apart(tmp_path: Path) -> None:
    assert not (write(tmp_path / "old", OLD).folder / "plugins.pkr.hcl").exists()
    assert (
        "required_plugins" in (write(tmp_path / "new", NEW).folder / "plugins.pkr.hcl").read_text()
    )


def test_a_recipe_starts_from_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "left.pkr.hcl").write_text("variable {")
    write(folder)
    assert not (folder / "left.pkr.hcl").exists()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: one for one in archive.getmembers()}


def test_the_files_are_root_s_and_hold_what_the_machine_needs() -> None:
    found = members(recipe.machine_files())
    assert {(one.uid, one.gid, one.mtime) for one in found.values()} == {(0, 0, 0)}
    assert {one.mode for one in found.values()} == {0o755, 0o644}
    assert found["usr/lib/mlflow-bakery/prepare"].mode == 0o755
    assert found["etc/systemd/system/mlflow.service"].mode == 0o644
    assert "usr/share/mlflow-bakery/compose/compose.yaml" in found
    assert not any("__pycache__" in name or name.startswith("/") for name in found)


def test_the_files_are_the_same_whenever_wherever_and_whoever_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recipe.machine_files()
    trees = []
    for number, (tree, prefix) in enumerate(recipe.TREES):
        copied = tmp_path / str(number)
        shutil.copytree(tree, copied)
        for path in [copied, *copied.rglob("*")]:
            path.chmod(path.stat().st_mode & 0o700)  # another umask
            os.utime(path, (1, 1))
        (copied / "__pycache__").mkdir()
        (copied / "__pycache__" / "x.pyc").write_bytes(b"x")
        trees.append((copied, prefix))
    monkeypatch.setattr(recipe, "TREES", tuple(trees))
    assert recipe.machine_files() == before
    changed = tmp_path / "1" / "compose.yaml"
    changed.write_text(changed.read_text() + "\n")
    assert recipe.machine_files() != before


def test_a_failed_build_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = program(tmp_path / "bin", "")
    (folder / "packer").write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo Packer v1.6.6 && exit\n'
        'echo "$@"; echo "$CHECKPOINT_DISABLE"; echo "Script exited 7"; exit 1\n'
    )
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    with pytest.raises(BakeryError, match="packer failed with code 1") as failed:
        packer.build(tmp_path, tmp_path / "bake.log")
    assert failed.value.log == tmp_path / "bake.log"
    words, quiet, last = failed.value.tail.splitlines()
    assert words.startswith("build ")
    assert words.endswith(str(tmp_path))
    assert (quiet, last) == ("1", "Script exited 7")
