"""The catalogue of images: whole ones only, the newest, by key, by name."""

from pathlib import Path

import pytest

from bakery.errors import InputError
from bakery.manifest import Catalogue
from tests.unit.samples import manifest


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path, tmp_path / "pool")


def add(catalogue: Catalogue, image: str, key: str = "key", created: int = 0) -> None:
    made = manifest(image, key, created)
    catalogue.disk(image).parent.mkdir(parents=True, exist_ok=True)
    catalogue.disk(image).touch()
    catalogue.add(made)


def test_what_is_added_is_found_as_it_was(catalogue: Catalogue) -> None:
    assert catalogue.images() == []
    add(catalogue, "one")
    assert catalogue.images() == [manifest("one")]
    assert catalogue.choose("one") == catalogue.choose(None) == manifest("one")
    assert '"schema": 1' in catalogue.manifest_file("one").read_text()


def test_the_newest_is_chosen_whatever_its_name(catalogue: Catalogue) -> None:
    add(catalogue, "a", created=2)
    add(catalogue, "z", created=1)
    assert [one.id for one in catalogue.images()] == ["z", "a"]
    assert catalogue.choose(None).id == "a"
    assert catalogue.choose("z").id == "z"


def test_the_newest_of_a_key_is_found(catalogue: Catalogue) -> None:
    add(catalogue, "a", "same", created=3)
    add(catalogue, "b", "same", created=1)
    add(catalogue, "c", "other", created=4)
    found = catalogue.by_key("same")
    assert found is not None
    assert found.id == "a"
    assert catalogue.by_key("none") is None


def test_an_image_without_its_disk_is_none(catalogue: Catalogue) -> None:
    add(catalogue, "old", created=1)
    add(catalogue, "new", created=2)
    catalogue.disk("new").unlink()
    assert catalogue.choose(None).id == "old"
    assert catalogue.by_key("key") == manifest("old", created=1)
    assert [one.id for one in catalogue.manifests()] == ["old", "new"]
    assert catalogue.recorded("new").id == "new"
    with pytest.raises(InputError, match="no image is called new"):
        catalogue.choose("new")


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", b'{"id": "damaged"'])
def test_a_damaged_manifest_is_none(catalogue: Catalogue, text: bytes) -> None:
    add(catalogue, "whole")
    add(catalogue, "damaged", created=1)
    catalogue.manifest_file("damaged").write_bytes(text)
    assert [one.id for one in catalogue.images()] == ["whole"]


def test_what_is_not_there_is_told(catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match="nothing has been baked") as refused:
        catalogue.choose(None)
    assert refused.value.hint == "./inv bake"
    add(catalogue, "one")
    with pytest.raises(InputError, match="no image is called two") as refused:
        catalogue.recorded("two")
    assert refused.value.hint == "./inv images shows them"
