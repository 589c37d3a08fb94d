"""What is wanted against what is there: made, mended, left alone, or refused."""

import copy
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from bakery import settings
from bakery.azure.names import Names
from bakery.azure.wanted import Wanted, covers, merged
from bakery.errors import InputError

NAMES = Names(
    settings.load(target="azure", azure_subscription="00000000-0000-0000-0000-000000000001")
)


class Model:
    """As much of one of the SDK's models as is looked at."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.tags = body.get("tags")

    def as_dict(self, *, exclude_readonly: bool) -> dict[str, Any]:
        hidden = {"etag"} if exclude_readonly else set()
        return {key: value for key, value in self._body.items() if key not in hidden}


class Place:
    """Where one resource may be."""

    def __init__(self, body: dict[str, Any] | None = None) -> None:
        self.body = body
        self.sent: list[dict[str, Any]] = []

    def get(self) -> Model:
        if self.body is None:
            raise ResourceNotFoundError
        return Model(self.body)

    def put(self, body: dict[str, Any]) -> None:
        self.sent.append(body)


BODY = {
    "location": "westeurope",
    "tags": NAMES.tags(),
    "properties": {"rules": [{"name": "ours-a", "properties": {"port": "443"}}]},
}


def wanted(place: Place, drop: Any = lambda body: body) -> Wanted:
    return Wanted("the thing", BODY, place.get, place.put, drop)


def test_what_is_not_there_is_made() -> None:
    place = Place()
    assert wanted(place).ensure(NAMES)
    assert place.sent == [BODY]


def test_what_is_as_it_should_be_is_left_alone() -> None:
    there = {
        **BODY,
        "etag": "1",
        "location": "WestEurope",
        "properties": {"rules": [*BODY["properties"]["rules"], {"name": "theirs"}], "more": 1},  # type: ignore[index]
    }
    place = Place(there)
    assert not wanted(place).ensure(NAMES)
    assert place.sent == []


def test_what_was_changed_is_mended_and_the_rest_stays() -> None:
    there = {
        **BODY,
        "etag": "1",
        "tags": {**NAMES.tags(), "theirs": "x"},
        "properties": {
            "rules": [
                {"name": "theirs", "properties": {"port": "22"}},
                {"name": "ours-a", "properties": {"port": "8443", "note": "y"}},
            ]
        },
    }
    place = Place(there)
    assert wanted(place).ensure(NAMES)
    [sent] = place.sent
    assert "etag" not in sent
    assert sent["tags"]["theirs"] == "x"
    assert sent["properties"]["rules"] == [
        {"name": "theirs", "properties": {"port": "22"}},
        {"name": "ours-a", "properties": {"port": "443", "note": "y"}},
    ]


def test_what_was_once_wanted_is_dropped() -> None:
    rules = [*BODY["properties"]["rules"], {"name": "ours-old"}]  # type: ignore[index]
    place = Place({**BODY, "properties": {"rules": rules}})

    def without_old(body: dict[str, Any]) -> dict[str, Any]:
        kept = [one for one in body["properties"]["rules"] if one["name"] != "ours-old"]
        return {**body, "properties": {"rules": kept}}

    assert wanted(place, without_old).ensure(NAMES)
    assert [one["name"] for one in place.sent[0]["properties"]["rules"]] == ["ours-a"]


@pytest.mark.parametrize("tags", [None, {}, {"managed-by": "mlflow-bakery"}])
def test_what_is_not_ours_is_refused_and_not_touched(tags: dict[str, str] | None) -> None:
    place = Place({**BODY, "tags": tags})
    with pytest.raises(InputError, match="does not carry our tags"):
        wanted(place).ensure(NAMES)
    assert place.sent == []


def test_lists_without_names_are_compared_whole() -> None:
    assert covers({"a": ["1", "2"]}, {"a": ["2", "1"]})
    assert not covers({"a": ["1", "2", "3"]}, {"a": ["1", "2"]})
    assert merged({"a": ["1", "2"]}, {"a": ["3"]}) == {"a": ["3"]}
    assert not covers({}, {"a": [{"name": "x"}]})
    assert not covers({"a": True}, {"a": False})


def test_what_failed_is_sent_again() -> None:
    body: dict[str, Any] = copy.deepcopy(BODY)
    body["properties"]["provisioningState"] = "Failed"
    place = Place(body)
    assert Wanted("the thing", BODY, place.get, place.put).ensure(NAMES)
    assert len(place.sent) == 1
