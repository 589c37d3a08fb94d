"""Settings and names of the Azure target: Azure's rules, told before anything is made."""

from typing import Any

import pytest

from bakery import settings
from bakery.azure.names import Names, subscription
from bakery.errors import InputError

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


def names(**given: Any) -> Names:
    return Names(settings.load(target="azure", azure_subscription=SUBSCRIPTION, **given))


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(InputError) as refused:
        settings.load(
            azure_subscription="mine",
            azure_resource_group="ends-with-dot.",
            azure_location="West Europe",
            azure_vm_sizes="big",
            azure_ssh_sources="0.0.0.0/0",
            azure_gallery="with-hyphen",
            azure_base_url="http://plain.example",
            acme_directory="somewhere",
        )
    told = str(refused.value)
    for name in (
        "azure_subscription", "azure_resource_group", "azure_location", "azure_vm_sizes",
        "azure_ssh_sources", "azure_gallery", "azure_base_url", "acme_directory",
    ):  # fmt: skip
        assert f"{name}: must" in told or f"{name}: 0.0.0.0/0 is everybody" in told


def test_names_of_the_blog_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_RESOURCE_GROUP", "of-the-blog")
    monkeypatch.setenv("AZURE_RESOURCE_GROUP_LOCATION", "northeurope")
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION)
    found = settings.load()
    assert found.azure_resource_group == "of-the-blog"
    assert found.azure_location == "northeurope"
    assert subscription(found) == SUBSCRIPTION


def test_without_a_subscription_nothing_begins() -> None:
    with pytest.raises(InputError, match="no subscription"):
        subscription(settings.load())


def test_ranges_are_read_with_commas_or_blanks() -> None:
    found = names(azure_ssh_sources="203.0.113.7,198.51.100.0/24 2001:db8::/32").settings
    assert found.azure_ssh_sources == "203.0.113.7/32, 198.51.100.0/24, 2001:db8::/32"


def test_names_are_the_same_at_each_run_and_other_for_another_deployment() -> None:
    assert names().account == names().account
    others = {names(name="other").id, names(azure_resource_group="other").id, names().id}
    assert len(others) == 3
    # A group's name has no case.
    assert names(azure_resource_group="GROUP").id == names(azure_resource_group="group").id


def test_the_longest_name_still_keeps_azures_rules() -> None:
    found = names(name="abcdefghijklmnopqrstuvwx")
    assert len(found.account) <= 24
    assert found.account.isalnum()
    assert len(found.dns_label) <= 63


def test_a_name_of_azures_gives_the_label() -> None:
    own = names(hostname="runs.westeurope.cloudapp.azure.com")
    assert own.dns_label == "runs"
    other = names(hostname="runs.example.org")
    assert other.hostname == "runs.example.org"
    assert other.dns_label == f"mlflow-{other.id}"
    assert names().hostname == f"mlflow-{names().id}.westeurope.cloudapp.azure.com"


def test_only_what_carries_our_tags_is_ours() -> None:
    found = names()
    assert found.owns({**found.tags(3), "theirs": "too"})
    assert not found.owns(names(name="other").tags())
    assert not found.owns({})
    assert not found.owns(None)
