"""What `python -m tests.sim.large` measures, in a cluster that is small enough for every run; and that it would see a lavish gossip."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from dynamo_fast.node import gossip
from tests.sim import large

NODES = 40


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_gossip_costs_little_and_everybody_knows_soon() -> None:
    found = large.figures(NODES, joins=2)
    assert found.formed_s < 10
    assert 0 < found.gossip_bytes <= large.BYTES_MAX
    assert 0 < found.known_s <= large.KNOWN_S_MAX
    assert 0 < found.joined_known_s <= large.KNOWN_S_MAX
    assert found.joined_known_s <= found.settled_s < 60


def test_more_rounds_are_more_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "ROUND_S", gossip.ROUND_S / 3)
    assert large.figures(5, joins=0).gossip_bytes > 2 * large.BYTES_MAX
