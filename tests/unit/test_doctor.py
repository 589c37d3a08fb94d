"""The doctor: each fault that it is for is found, with its fix; nothing is changed by looking."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from bakery import doctor
from bakery.doctor import local
from bakery.doctor.azure import allows
from bakery.doctor.finding import Finding
from bakery.settings import load
from tests.azure.place import Place, placed

Found = dict[str, Finding]


def examined(target: str) -> Found:
    return {one.name: one for one in doctor.examine(load(target=target))}


def faults(found: Found) -> list[str]:
    return [name for name, one in found.items() if not one.ok]


def test_this_host(state: Path) -> None:
    found = examined("local")
    assert {"root", "packer", "driver", "acceleration", "disk space", "Debian packages"} <= set(
        found
    )
    assert found["root"].ok == (os.geteuid() == 0)
    assert all(one.fix for one in found.values() if not one.ok)
    assert not state.exists(), "looking makes nothing"


def test_what_is_missing_on_this_host(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(local, "_TOOLS", {"no-such-tool": ("some-package", "does things")})
    monkeypatch.setattr(local, "_NEEDED_GIB", 1 << 40)
    monkeypatch.setattr("requests.head", refuses)
    found = examined("local")
    assert {"root", "driver", "no-such-tool", "disk space", "Debian packages"} <= set(faults(found))
    assert found["no-such-tool"].fix == "apt-get install some-package"


def refuses(*_: object, **__: object) -> None:
    raise requests.ConnectionError


def test_whether_kvm_works_is_tried_once_and_remembered(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "cache").mkdir(parents=True)
    asked: list[int] = []

    def works() -> bool:
        asked.append(1)
        return True

    monkeypatch.setattr(local, "kvm_works", works)
    for _ in range(2):
        (found,) = local._acceleration(load())
        assert found.detail.startswith("QEMU takes KVM")
    assert len(asked) == 1


def test_a_device_that_is_not_there_is_no_kvm(tmp_path: Path) -> None:
    assert not local.kvm_works(tmp_path / "kvm")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with placed(tmp_path, monkeypatch, registered=True) as found:
        yield found


def test_a_good_subscription(place: Place) -> None:
    found = examined("azure")
    assert faults(found) == [], {name: one.detail for name, one in found.items() if not one.ok}
    assert "fake, Enabled" in found["login"].detail
    assert found["base"].detail.endswith("20.04.202505200")
    assert "Pro" in found["base"].note
    assert place.fake.journal.calls("PUT", "PATCH", "DELETE") == []


def test_a_fresh_subscription(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered by looking; what only a provider knows is said not to be known."""
    with placed(tmp_path, monkeypatch) as place:
        found = examined("azure")
        assert faults(found) == []
        assert "a bake or deploy registers it" in found["Microsoft.Compute"].detail
        assert found["size"].detail == "not known before Microsoft.Compute is registered"
        assert not [call for call in place.fake.journal.calls("POST") if "register" in call]


def old_packer(place: Place) -> None:
    place.packer(packer="1.6.6")


def old_plugin(place: Place) -> None:
    place.packer(plugin="2.1.0")


def few_cores(place: Place) -> None:
    place.fake.catalogue.quota["cores"] = 3


def no_size(place: Place) -> None:
    place.fake.catalogue.not_available |= set(place.fake.catalogue.sizes)


def no_image(place: Place) -> None:
    place.fake.catalogue.images.clear()


def reader(place: Place) -> None:
    place.fake.permissions[:] = [{"actions": ["*/read"], "notActions": []}]


FAULTS = {
    "Packer": old_packer,
    "Packer's Azure plugin": old_plugin,
    "quota cores": few_cores,
    "size": no_size,
    "base": no_image,
    "permissions": reader,
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_in_azure(place: Place, name: str) -> None:
    spoil: Callable[[Place], None] = FAULTS[name]
    spoil(place)
    found = examined("azure")
    assert name in faults(found)
    assert [one for one in faults(found) if not one.startswith(name)] == []
    assert found[name].fix


def test_a_training_machine_is_looked_for_where_one_is_wanted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "training machine" not in examined("azure")
    monkeypatch.setenv("BAKERY_AZURE_GPU", "true")
    found = examined("azure")
    assert "Standard_NC4as_T4_v3: 4 cores" in found["training machine"].detail
    assert faults(found) == []
    place.fake.catalogue.quota["Standard NCASv3_T4 Family"] = 0
    assert faults(examined("azure")) == ["quota Standard NCASv3_T4 Family"]
    place.fake.catalogue.not_available |= {
        name for name in place.fake.catalogue.sizes if "_nc" in name
    }
    found = examined("azure")
    assert "azure_training_sizes" in found["training machine"].fix


def test_a_taken_name_and_label(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "somebodyelse")
    monkeypatch.setenv("BAKERY_HOSTNAME", "taken.westeurope.cloudapp.azure.com")
    place.fake.options.taken_names.append("somebodyelse")
    place.fake.options.taken_labels.append("taken")
    assert faults(examined("azure")) == ["storage account", "host name"]


def test_not_signed_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    found = examined("azure")
    assert "login" in faults(found)
    assert "AZURE_CLIENT_SECRET" in found["login"].fix


def test_permissions_are_compared_as_azure_does() -> None:
    contributor = {"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}
    assert allows(contributor, "Microsoft.Compute/disks/write")
    assert not allows(contributor, "Microsoft.Authorization/roleAssignments/write")
    assert allows({"actions": ["microsoft.compute/*/write"]}, "Microsoft.Compute/disks/write")
    assert not allows({"actions": ["Microsoft.Compute/*/read"]}, "Microsoft.Compute/disks/write")
    assert not allows({"actions": []}, "Microsoft.Compute/disks/write")
