"""Images of this host: who needs them, how they differ, and what may go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakery import images, pool
from bakery.difference import difference, markdown
from bakery.errors import BakeryError, InputError
from bakery.images_local import LocalShelf
from bakery.manifest import Catalogue, ContainerInfo, Manifest
from bakery.settings import Settings, load
from bakery.shelf import Doomed
from bakery.state import Deployment, DeploymentFolder, Generation, Pending
from tests.unit.samples import manifest

OLD = "20260101-000000-00000000"


@pytest.fixture
def settings(state: Path) -> Settings:
    return load()


@pytest.fixture
def catalogue(settings: Settings) -> Iterator[Catalogue]:
    """Five images; the first three are needed by a deployment."""
    with pool.opened(settings.state_dir) as disks:
        found = Catalogue(settings.state_dir, disks)
        for number, name in enumerate(("one", "two", "three", "four", "five", "gone")):
            add(found, manifest(name, created=number))
        found.disk("gone").unlink()
        DeploymentFolder(settings.state_dir, "mlflow").save(
            Deployment(
                name="mlflow",
                generation=Generation(number=2, image="two"),
                previous=Generation(number=1, image="one"),
                pending=Pending(
                    action="deploy", generation=Generation(number=3, image="three"), by="me"
                ),
            )
        )
        yield found


def add(catalogue: Catalogue, made: Manifest) -> None:
    catalogue.add(made)
    catalogue.disk(made.id).parent.mkdir(exist_ok=True)
    catalogue.disk(made.id).write_bytes(b"disk")


@pytest.mark.usefixtures("catalogue")
def test_images_know_who_needs_them(settings: Settings) -> None:
    found = {one.id: (one.deployed, one.kept) for one in images.images(settings)}
    assert found == {
        "one": ((), ("mlflow",)),
        "two": (("mlflow",), ()),
        "three": ((), ("mlflow",)),
        "four": ((), ()),
        "five": ((), ()),
    }


def test_images_say_how_they_differ_from_the_deployed_one(
    settings: Settings, catalogue: Catalogue
) -> None:
    serving = manifest("two", created=1).model_copy(update={"packages": {"a": "1", "b": "1"}})
    add(catalogue, serving)
    add(catalogue, serving.model_copy(update={"id": "four", "packages": {"a": "2", "b": "1"}}))
    add(catalogue, serving.model_copy(update={"id": "five", "bake_key": "forced"}))
    found = {one.id: one.differs for one in images.images(settings)}
    assert (found["two"], found["four"], found["five"]) == ("", "1 package", "the same contents")


def test_what_is_needed_or_newest_is_never_pruned(settings: Settings, catalogue: Catalogue) -> None:
    told = images.prune(settings, keep=1, do=False)
    assert [one.name for one in told] == ["four"]
    assert catalogue.disk("four").exists(), "nothing is deleted until one says so"
    assert images.prune(settings, keep=1, do=True) == told
    assert sorted(path.stem for path in catalogue.disks.glob("*.raw")) == [
        "five",
        "one",
        "three",
        "two",
    ]
    assert not catalogue.manifest_file("four").exists()
    assert images.prune(settings, keep=1, do=True) == []


@pytest.mark.usefixtures("catalogue")
def test_the_newest_stay_by_number(settings: Settings) -> None:
    assert images.prune(settings, keep=2, do=True) == []
    with pytest.raises(InputError, match="the newest image always stays"):
        images.prune(settings, keep=0, do=True)


def test_an_image_that_came_into_use_meanwhile_stays(
    settings: Settings, catalogue: Catalogue
) -> None:
    doomed = Doomed("image", "two", "")
    with pytest.raises(BakeryError, match="in use by now"):
        LocalShelf(settings).delete(doomed)
    assert catalogue.disk("two").exists()


def test_a_disk_without_a_manifest_goes_when_it_is_ours_and_old(
    settings: Settings, catalogue: Catalogue
) -> None:
    for name in (OLD, "20260101-000000-11111111", "precious"):
        disk = catalogue.disk(name)
        disk.write_bytes(b"disk")
        if not name.endswith("1"):
            os.utime(disk, (1, 1))
    found = images.prune(settings, keep=3, do=True)
    assert [(one.kind, one.name) for one in found] == [("disk", OLD)]
    assert catalogue.disk("precious").exists()
    assert catalogue.disk("20260101-000000-11111111").exists(), "a bake may be about to record it"


def test_a_report_tells_packages_digests_and_sizes() -> None:
    old = manifest("old").model_copy(update={"packages": {"a": "1", "b": "1", "c": "1"}})
    info = {"reference": "r", "version": "3", "source": "packages", "size": 5 << 20}
    new = manifest("new").model_copy(
        update={
            "packages": {"a": "2", "b": "1", "d": "1"},
            "containers": [
                ContainerInfo.model_validate({"name": "mlflow", "image_id": "j", **info})
            ],
            "disk_used": 3 << 30,
        }
    )
    text = markdown(old, new)
    for row in (
        "| a | 1 | 2 |", "| c | 1 | - |", "| d | - | 1 |", "| mlflow | 3 i | 3 j |",
        "| disk | 2048 MiB | 3072 MiB |", "| container mlflow | 0 MiB | 5 MiB |",
    ):  # fmt: skip
        assert row in text, text
    assert "| b |" not in text
    assert difference(old, old).nothing
    assert "The first image" in markdown(None, new)
    assert "not known" in markdown(manifest("old"), new)
