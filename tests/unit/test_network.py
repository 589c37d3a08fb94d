"""A deployment's network: its addresses, and what it changes on the host and takes back."""

import ipaddress
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakery import network
from bakery.errors import BakeryError
from bakery.network import Network
from bakery.run import run


def test_addresses_are_apart_and_inside() -> None:
    found = Network("bk1", "10.88.3.16/28")
    assert (found.gateway, found.service, found.prefix) == ("10.88.3.17", "10.88.3.18", 28)
    managed = [found.management(number) for number in range(8)]
    assert len({*managed, found.gateway, found.service}) == 10
    inside = list(ipaddress.ip_network(found.subnet).hosts())
    assert all(ipaddress.ip_address(address) in inside for address in managed)
    assert found.management(9) == found.management(1)


def test_the_first_free_subnet_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Network] = []
    monkeypatch.setattr(network, "_raise", raised.append)
    taken = [ipaddress.IPv4Network(one) for one in ("10.88.0.0/28", "10.88.0.16/32", "0.0.0.0/32")]
    monkeypatch.setattr(network, "_used", lambda: taken)
    found = network.allot("bkx")
    assert found.subnet == "10.88.0.32/28"
    assert raised == [found]
    taken[0] = ipaddress.IPv4Network("10.88.0.0/16")
    with pytest.raises(BakeryError, match="no free subnet") as refused:
        network.allot("bkx")
    assert refused.value.hint
    assert raised == [found]


@pytest.fixture
def name() -> Iterator[str]:
    made = f"bkt{secrets.token_hex(3)}"
    yield made
    network.take_down(made)


def seen(owner: str) -> list[str]:
    """What the host knows of a network."""
    looks = (["ip", "-brief", "link"], ["ip", "route"], ["nft", "list", "ruleset"])
    lines = [line for words in looks for line in run(words).stdout.splitlines()]
    return [line for line in lines if owner in line]


def test_a_network_comes_is_kept_and_goes(name: str) -> None:
    made = network.allot(name)
    assert f"{made.subnet} dev {name}" in "\n".join(seen(name))
    rules = run(["nft", "list", "table", "ip", name]).stdout
    assert f'ip saddr {made.subnet} oifname != "{name}" masquerade' in rules
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    network.bring_up(made)
    assert run(["nft", "list", "table", "ip", name]).stdout == rules, "nothing is there twice"
    assert made.gateway in run(["ip", "address", "show", "dev", name]).stdout
    for generation in (1, 2, 1):
        network.lead(made, generation)
        routes = run(["ip", "route", "show", f"{made.service}/32"]).stdout.splitlines()
        assert [f"via {made.management(generation)}" in route for route in routes] == [True]
    network.take_down(made.name)
    assert seen(name) == []
    network.take_down(made.name)


def test_two_networks_do_not_meet(name: str) -> None:
    other = f"{name}2"
    one, two = network.allot(name), network.allot(other)
    try:
        assert one.subnet != two.subnet
        network.take_down(one.name)
        assert seen(other), "the other one stays"
    finally:
        network.take_down(two.name)


def test_addresses_that_something_else_took_are_refused(name: str) -> None:
    other = Network(f"{name}2", network.allot(name).subnet)
    with pytest.raises(BakeryError, match="has been taken by something else"):
        network.bring_up(other)
    assert seen(other.name) == []
