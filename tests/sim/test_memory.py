"""A simulation that is over leaves nothing behind, however many requests were under way when its processes were killed."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.testing.core.simulation import simulate as simulate_core
from dynamo_fast.testing.core.swarm import draw as draw_core
from dynamo_fast.testing.simulation import simulate as simulate_nodes
from dynamo_fast.testing.swarm import draw as draw_nodes

SEEDS = range(6, 10)  # some of which kill what has requests under way


def data_planes() -> int:
    gc.collect()
    return sum(type(one) is DataPlane for one in gc.get_objects())


@pytest.mark.parametrize(
    "run", [lambda seed: simulate_nodes(draw_nodes(seed)), lambda seed: simulate_core(draw_core(seed))], ids=["nodes", "core"]
)
def test_nothing_is_left_of_a_simulation(run: Callable[[int], object]) -> None:
    before = data_planes()
    for seed in SEEDS:
        run(seed)
    assert data_planes() == before
