"""Baking: what decides that an image is another one, and what its timings are read from."""

import shutil
from pathlib import Path

import pytest

from bakery import bake, bake_local, network, packer, recipe
from bakery.errors import BakeryError, InputError
from bakery.network import Network
from bakery.settings import load
from tests.unit.samples import container

DECIDES = ("packer", "compose")
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another checkout of the project, which may be changed."""
    folder = tmp_path / "elsewhere"
    for part in DECIDES:
        shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(recipe, "PROJECT", folder)
    return folder


def key(**changes: str) -> str:
    return recipe.bake_key(
        changes.get("base", "sha256:base"),
        [container("mysql"), container("mlflow", changes.get("mlflow", "sha256:1"))],
        int(changes.get("disk_gib", 16)),
    )


def test_another_folder_is_the_same_image(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = key()
    assert len(here) == 64
    (checkout / "packer" / "provision" / "__pycache__").mkdir()
    (checkout / "packer" / "provision" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (checkout / "README.md").write_text("other words")
    assert key() == here
    monkeypatch.undo()
    assert key() == here


def test_an_image_for_gpus_is_another_one() -> None:
    assert len({recipe.bake_key("b", [], 16, "azure", gpu=gpu) for gpu in (False, True)}) == 2


def deciding() -> list[str]:
    roots = [PROJECT / one for one in recipe._DECIDES]
    files = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*"))]
    kept = [one for one in files if one.is_file() and "__pycache__" not in one.parts]
    return sorted(str(file.relative_to(PROJECT)) for file in kept)


def test_every_file_that_goes_into_the_machine_decides(checkout: Path) -> None:
    names = deciding()
    assert len(names) > 25
    assert {"packer/provision/90-hygiene.sh", "compose/compose.yaml"} < set(names)
    before = key()
    for name in names:
        file = checkout / name
        text = file.read_bytes()
        file.write_bytes(text + b"\n")
        assert key() != before, name
        file.write_bytes(text)
    assert key() == before


def test_a_new_a_renamed_and_a_removed_file_decide(checkout: Path) -> None:
    keys = {key()}
    file = checkout / "compose" / "new"
    file.write_text("")
    keys.add(key())
    file.rename(checkout / "compose" / "newer")
    keys.add(key())
    (checkout / "compose" / "newer").unlink()
    (checkout / "compose" / "compose.yaml").unlink()
    keys.add(key())
    assert len(keys) == 4


def test_who_may_run_a_file_decides(checkout: Path) -> None:
    before = key()
    file = checkout / "packer" / "files" / "usr" / "lib" / "mlflow-bakery" / "prepare"
    file.chmod(0o644)
    assert key() != before
    file.chmod(0o755)
    assert key() == before


@pytest.mark.parametrize(
    "change", [{"base": "sha256:other"}, {"mlflow": "sha256:2"}, {"disk_gib": "17"}]
)
def test_base_containers_and_size_decide(change: dict[str, str]) -> None:
    assert key(**change) != key()


def test_the_order_of_the_containers_does_not_decide() -> None:
    images = [container("mysql"), container("traefik"), container("mlflow")]
    assert recipe.bake_key("sha256:base", images, 16) == recipe.bake_key(
        "sha256:base", images[::-1], 16
    )


LOG = """\
2026-01-01T10:00:00Z: null.machine: output will be in this color.
2026-01-01T10:00:01Z: ==> null.machine: Uploading /x/files.tar => /var/tmp/bake/files.tar
2026-01-01T10:00:05Z ==> null.machine: Provisioning with shell script: /p/10-system.sh
2026-01-01T10:00:06Z     null.machine: said something
not a line of Packer's
2026-01-01T10:00:15Z ==> null.machine: Provisioning with shell script: /p/20-docker.sh
2026-01-01T10:01:15Z     null.machine: Provisioning with shell script: /p/said-by-a-script.txt
2026-01-01T10:01:20Z Build 'null.machine' finished.
"""


def test_each_script_s_time_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "bake.log"
    log.write_text(LOG)
    assert packer.provision_timings(log) == [
        ("provision 10-system", 10.0),
        ("provision 20-docker", 65.0),
    ]
    log.write_bytes(b"\xff nothing of use\n")
    assert packer.provision_timings(log) == []


def test_every_file_for_packer_can_be_written_without_root_or_base(
    tmp_path: Path, state: Path
) -> None:
    bake.render_only(load(), tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert {"packer/template.pkr.hcl", "packer/files.tar", "build-user-data.yaml"} <= names
    assert "ubuntu-20.04" in (tmp_path / "out" / "packer" / "template.pkr.hcl").read_text()
    assert not state.exists()
    bake.render_only(load(), tmp_path / "out")


def test_the_recipe_for_azure_can_be_written_without_an_account(
    tmp_path: Path, state: Path
) -> None:
    bake.render_only(load(target="azure", base="ubuntu-24.04"), tmp_path / "out")
    text = (tmp_path / "out" / "packer" / "template.pkr.hcl").read_text()
    assert 'source "azure-arm" "machine"' in text
    assert '"ubuntu-24_04-lts"' in text
    with pytest.raises(InputError, match="debian-13 is not a base on Azure"):
        bake.render_only(load(target="azure", base="debian-13"), tmp_path / "other")
    assert not state.exists()


def test_files_are_not_written_over_the_user_s(tmp_path: Path) -> None:
    """`--render .` must not take the project's own packer folder for its own."""
    (tmp_path / "packer").mkdir()
    (tmp_path / "packer" / "precious").touch()
    with pytest.raises(InputError, match="is not empty"):
        bake.render_only(load(), tmp_path)
    assert (tmp_path / "packer" / "precious").exists()


def test_without_root_nothing_is_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InputError, match="needs root"):
        bake.bake(load())
    assert not state.exists()


def test_two_bakes_in_one_state_folder_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "allot", lambda name: Network(name, "10.0.0.0/28"))
    monkeypatch.setattr(network, "take_down", lambda _: None)
    with bake_local._workplace(tmp_path, keep=False) as place:
        (place.folder / "of a bake").touch()
        with pytest.raises(BakeryError, match="another bake") as refused:
            bake_local._workplace(tmp_path, keep=False).__enter__()
        assert refused.value.hint
        assert (place.folder / "of a bake").exists()
    assert not place.folder.exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_failed_bake_leaves_its_folder_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    taken: list[object] = []
    monkeypatch.setattr(network, "allot", lambda name: Network(name, "10.0.0.0/28"))
    monkeypatch.setattr(network, "take_down", taken.append)

    def fail() -> None:
        with bake_local._workplace(tmp_path, keep=keep):
            taken.clear()
            raise BakeryError("a step failed")

    with pytest.raises(BakeryError, match="a step failed"):
        fail()
    assert (tmp_path / "bake").exists() == keep
    assert bool(taken) != keep
    with bake_local._workplace(tmp_path, keep=False) as place:
        assert not (place.folder / "machine").exists()
