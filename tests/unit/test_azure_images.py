"""Images in the gallery: who needs them, what is pruned; only what is ours, never what serves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bakery import images
from bakery.azure import leftovers
from bakery.azure.clients import Clients
from bakery.azure.gallery import Gallery
from bakery.errors import BakeryError
from bakery.settings import load
from tests.azure.place import GROUPS, Place, placed
from tests.unit.samples import manifest

BASE, DEFINITION = "ubuntu-24.04", "mlflow-ubuntu-24.04"
OURS = {"managed-by": "mlflow-bakery"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch, registered=True) as found:
        shelf().ensure(BASE)
        yield found


def shelf() -> Gallery:
    settings = load(target="azure")
    return Gallery(settings, Clients(settings))


def add(place: Place, day: int, state: str = "good", **changes: Any) -> str:
    """Put a version into the gallery as a bake leaves it; return its image's id."""
    image, version = f"202601{day:02}-101010-{day:08x}", f"202601{day:02}.101010.0"
    path = f"{shelf().id}/images/{DEFINITION}/versions/{version}"
    tags = {**OURS, "mlflow-bakery-image": image, "mlflow-bakery-key": str(day)}
    profile = {
        "targetRegions": [{"name": "westeurope"}],
        "excludeFromLatest": state != "good",
    }
    place.fake.world.put(
        {
            "id": path,
            "name": version,
            "type": "Microsoft.Compute/galleries/images/versions",
            "location": "westeurope",
            "tags": {**tags, "mlflow-bakery-state": state},
            "properties": {
                "provisioningState": "Succeeded",
                "publishingProfile": profile,
                "storageProfile": {"source": {"id": "/gone"}},
            },
        }
    )
    if not changes.get("unrecorded"):
        made = manifest(image, str(day), created=day)
        shelf().record(DEFINITION, version, made, {"revision": "r"})
    place.fake.world.get(path).update(changes.get("resource", {}))
    return image


def machine(place: Place, name: str, image: str, tags: dict[str, str]) -> None:
    found = next(one for one in place.images() if one.image == image)
    group = f"/subscriptions/{place.fake.subscription}/resourceGroups/mlflow-bakery"
    place.fake.world.put(
        {
            "id": f"{group}/providers/Microsoft.Compute/virtualMachines/{name}",
            "name": name,
            "type": "Microsoft.Compute/virtualMachines",
            "location": "westeurope",
            "tags": tags,
            "properties": {
                "provisioningState": "Succeeded",
                "hardwareProfile": {"vmSize": "Standard_B2s"},
                "storageProfile": {"imageReference": {"id": found.id.upper()}, "dataDisks": []},
                "networkProfile": {"networkInterfaces": []},
            },
        }
    )


def generation(number: int) -> dict[str, str]:
    return {
        **OURS,
        "mlflow-bakery-deployment": "mlflow",
        "mlflow-bakery-generation": str(number),
    }


def pruned(**options: Any) -> list[str]:
    return [one.name for one in images.prune(load(target="azure"), **options)]


def test_who_needs_an_image(place: Place) -> None:
    one, two, three = (add(place, day) for day in (1, 2, 3))
    machine(place, "mlflow-1", one, generation(1))
    machine(place, "mlflow-2", two, generation(2))
    machine(place, "somebody-s", three, {})
    found = {image.id: image for image in images.images(load(target="azure"))}
    assert (found[one].deployed, found[one].kept) == ((), ("mlflow",))
    assert (found[two].deployed, found[two].kept) == (("mlflow",), ())
    assert found[three].deployed == ("somebody-s",)
    assert found[one].state == "good"


def test_nothing_is_pruned_until_one_says_so(place: Place) -> None:
    names = [add(place, day) for day in (1, 2, 3)]
    assert pruned(keep=1, do=False) == names[:2]
    assert place.fake.journal.calls("DELETE") == []
    assert pruned(keep=1, do=True) == names[:2]
    assert [one.image for one in place.images()] == names[2:]
    assert pruned(keep=1, do=True) == []


def test_what_serves_is_kept_or_newest_stays(place: Place) -> None:
    names = [add(place, day) for day in (1, 2, 3, 4)]
    machine(place, "mlflow-1", names[0], generation(1))
    machine(place, "mlflow-2", names[1], generation(2))
    assert pruned(keep=1, do=True) == [names[2]]
    assert [one.image for one in place.images()] == [names[0], names[1], names[3]]


def test_rejected_and_half_made_ones_go_and_the_newest_good_one_stays(place: Place) -> None:
    good = add(place, 1)
    rejected = add(place, 2, "rejected")
    untested = add(place, 3, "candidate")
    part = add(place, 4, "candidate", unrecorded=True)
    assert sorted(pruned(keep=3, do=True)) == [rejected, untested, part]
    assert [one.image for one in place.images()] == [good]


def test_a_candidate_of_today_may_be_under_test(place: Place) -> None:
    now = datetime.now(UTC)
    image = add(place, 1, "candidate")
    found = place.images()[0]
    tags = {**found.tags, "mlflow-bakery-image": f"{now:%Y%m%d-%H%M%S}-00000000"}
    place.fake.world.get(found.id)["tags"] = tags
    assert pruned(keep=1, do=True) == [], image


def test_what_does_not_say_that_it_is_ours_is_left_alone(place: Place) -> None:
    """Also a version in our own gallery, older than all of ours."""
    add(place, 1, resource={"tags": {}})
    add(place, 2)
    assert pruned(keep=1, do=True) == []
    assert len(place.fake.world.of_type("Microsoft.Compute/galleries/images/versions")) == 2


def group(place: Place, name: str, hours: float, **tags: str) -> str:
    path = f"/subscriptions/{place.fake.subscription}/resourceGroups/{name}"
    made = datetime.now(UTC) - timedelta(hours=hours)
    when = {"mlflow-bakery-temporary": f"{made:%Y-%m-%dT%H:%M:%SZ}"}
    place.fake.world.put(
        {
            "id": path,
            "name": name,
            "type": GROUPS,
            "location": "westeurope",
            "tags": {**when, **tags},
            "properties": {"provisioningState": "Succeeded"},
        }
    )
    return name


def test_temporary_groups_go_when_they_are_ours_and_old(place: Place) -> None:
    old = group(place, "mlflow-bakery-tmp-1", 25, **OURS)
    group(place, "mlflow-bakery-tmp-2", 23, **OURS)
    group(place, "mlflow-bakery-tmp-3", 99)
    group(place, "of-somebody-else", 99, **OURS)
    assert pruned(keep=1, do=True) == [old]
    assert sorted(place.groups()) == [
        "mlflow-bakery",
        "mlflow-bakery-tmp-2",
        "mlflow-bakery-tmp-3",
        "of-somebody-else",
    ]
    assert not leftovers.remove(Clients(load(target="azure")), "mlflow-bakery-tmp-3")


def test_one_that_cannot_be_deleted_does_not_stop_the_rest(place: Place) -> None:
    names = [add(place, day) for day in (1, 2, 3)]
    place.fake.fault(
        "answer", method="DELETE", path="20260101.101010.0", status=403, code="AuthorizationFailed"
    )
    with pytest.raises(BakeryError, match=f"not deleted: {names[0]}"):
        pruned(keep=1, do=True)
    assert [one.image for one in place.images()] == [names[0], names[2]]
    assert pruned(keep=1, do=True) == [names[0]]


def test_before_anything_was_baked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with placed(tmp_path, monkeypatch, registered=True):
        assert images.images(load(target="azure")) == []
        assert pruned(keep=1, do=True) == []
