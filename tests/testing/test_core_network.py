"""Pipes of the core tier: bytes in order, behind a cut until it is over, and gone with their connection."""

from __future__ import annotations

import random

import pytest

from dynamo_fast.testing.agenda import Agenda
from dynamo_fast.testing.core.network import Network, Pipe
from dynamo_fast.testing.trace import Trace


@pytest.fixture
def network() -> Network:
    return Network(Agenda(), Trace(), random.Random(1))


def pipe_into(network: Network, arrived: list[bytes | None]) -> Pipe:
    return Pipe(network, "a", "b", arrived.append)


any_weather = pytest.mark.parametrize("weather", [
    {}, {"jitter_s": 1.0}, {"delay_s": 3.0}, {"stall_chance": 0.5, "stall_s": 1.0}, {"bytes_per_s": 10.0}, {"fragments": True},
])  # fmt: skip


@any_weather
def test_bytes_arrive_in_order_in_any_weather(network: Network, weather: dict[str, object]) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.link.__dict__.update(weather)
    sent = [bytes([number]) * 30 for number in range(50)]
    for data in sent:
        pipe.send(data)
    pipe.send(None)
    network.clock.run(1000)
    assert arrived[-1] is None
    assert b"".join(data for data in arrived[:-1] if data is not None) == b"".join(sent)


def test_what_is_behind_a_cut_waits_and_goes_on_in_order(network: Network) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.send(b"1")
    pipe.link.cut = True
    pipe.send(b"2")
    network.clock.run(1)
    assert arrived == []
    pipe.link.cut = False
    network.go_on()
    pipe.send(b"3")
    network.clock.run(2)
    assert arrived == [b"1", b"2", b"3"]


@any_weather
def test_when_the_last_of_all_arrives_is_known_in_any_weather(network: Network, weather: dict[str, object]) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.link.__dict__.update(weather)
    for _ in range(20):
        pipe.send(b"in bad weather")
    network.heal()
    pipe.send(b"and behind it")
    network.clock.run(network.latest_s)
    assert b"".join(data for data in arrived if data is not None) == 20 * b"in bad weather" + b"and behind it"


def test_when_the_last_of_what_was_behind_a_cut_arrives_is_known_when_it_is_over(network: Network) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.link.cut = True
    pipe.send(b"1")
    network.clock.run(1)
    network.heal()
    network.clock.run(network.latest_s)
    assert arrived == [b"1"]


def test_what_is_under_way_is_lost_with_the_connection(network: Network) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.send(b"1")
    pipe.over = True
    network.clock.run(1)
    assert arrived == []
    assert network.chunks == 0


def test_corrupt_bytes_differ_in_one_bit(network: Network) -> None:
    arrived: list[bytes | None] = []
    pipe = pipe_into(network, arrived)
    pipe.link.corrupt_chance = 1.0
    pipe.send(bytes(8))
    network.clock.run(1)
    assert [data.count(0) for data in arrived if data is not None] == [7]


def test_a_connection_needs_both_ways(network: Network) -> None:
    assert network.connects("a", "b")
    network.link("b", "a").cut = True
    assert not network.connects("a", "b")
    network.heal()
    network.link("a", "b").refuses = True
    assert not network.connects("a", "b")
    assert network.connects("b", "a")
