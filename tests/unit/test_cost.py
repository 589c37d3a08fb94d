"""What it costs: from the list of prices, kept with its date."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakery import cost as costs
from bakery.errors import BakeryError
from bakery.settings import load
from tests.azure.place import Place, placed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch) as found:
        yield found


def asked(place: Place) -> int:
    return len([call for call in place.fake.journal.calls() if "/retail/" in call])


def kept() -> Path:
    return load().state_dir / "cache" / "prices-westeurope.json"


def test_the_local_target_costs_nothing(state: Path) -> None:
    found = costs.cost(load())
    assert (found.items, found.month) == ([], 0)
    assert "nothing" in found.note


def test_what_it_costs_on_azure(place: Place) -> None:
    found = costs.cost(load(target="azure"))
    months = {item.what.split(" (")[0]: item.month for item in found.items}
    assert months["machine Standard_B2s"] == round(730 * 0.0416, 2)
    assert months["public address"] == round(730 * 0.005, 2)
    assert len(found.items) == 7
    assert found.month == pytest.approx(sum(months.values()))
    assert found.region == "westeurope"
    assert found.date in kept().read_text()


def test_prices_are_fetched_once_a_day(place: Place) -> None:
    first = costs.cost(load(target="azure"))
    count = asked(place)
    assert count > 0
    assert costs.cost(load(target="azure")) == first
    assert asked(place) == count
    values = json.loads(kept().read_text())
    kept().write_text(json.dumps({**values, "date": "2026-01-01"}))
    assert costs.cost(load(target="azure")).date == first.date
    assert asked(place) == 2 * count


def test_a_larger_disk_costs_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = costs.cost(load(target="azure")).month
    monkeypatch.setenv("BAKERY_DATA_DISK_GIB", "100")
    assert costs.cost(load(target="azure")).month > before


def test_out_of_reach_the_prices_of_before_serve_with_their_date(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs.cost(load(target="azure"))
    values = json.loads(kept().read_text())
    kept().write_text(json.dumps({**values, "date": "2026-01-01"}))
    place.fake.fault("answer", path="/retail/", status=503, times=99)
    assert costs.cost(load(target="azure")).date == "2026-01-01"
    assert "these are of 2026-01-01" in capsys.readouterr().err


@pytest.mark.parametrize("status", [500, 404])
def test_out_of_reach_and_none_of_before(place: Place, status: int) -> None:
    place.fake.fault("answer", path="/retail/", status=status, times=99)
    with pytest.raises(BakeryError, match="does not answer"):
        costs.cost(load(target="azure"))
    assert not kept().exists()


def test_a_size_without_a_price(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKERY_AZURE_VM_SIZES", "Standard_X99")
    with pytest.raises(BakeryError, match="no machine Standard_X99 in westeurope"):
        costs.cost(load(target="azure"))
