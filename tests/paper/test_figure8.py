"""Figure 8 of the Dynamo paper, with few draws: `make paper` makes it with a thousand, to within two hundredths.

A strategy's efficiency is drawn again from the ring by a slow walk, so that what is compared with the paper is what it says it is.
"""

from __future__ import annotations

import random

import pytest

from bench.paper import figure8
from tests.models.ring import walk

DRAWS = 16
CHANCE = 0.04  # by which the mean of so few draws may be off


@pytest.fixture(scope="module")
def found() -> dict[int, list[float]]:
    return figure8.measure(DRAWS, processes=1)


@pytest.mark.parametrize("strategy", [1, 2, 3])
def test_the_curve_is_the_papers(found: dict[int, list[float]], strategy: int) -> None:
    for mean, paper in zip(found[strategy], figure8.PAPER[strategy], strict=True):
        assert abs(mean - paper) <= CHANCE


def test_strategies_compare_as_in_the_paper(found: dict[int, list[float]]) -> None:
    for first, second, third in zip(found[1], found[2], found[3], strict=True):
        assert third > max(first, second)
    assert found[2][-1] < found[1][-1]  # many tokens help strategy 2 no more, its partitions being what they are


def test_our_placement_is_at_least_as_even_as_the_papers_best() -> None:
    for tokens, best in zip(figure8.TOKENS, figure8.PAPER[3], strict=True):
        assert figure8.ours(tokens) >= best


@pytest.mark.parametrize("seed", range(3))
def test_strategy_1_counts_the_arcs_of_the_paper_s_walk(seed: int) -> None:
    tokens = figure8.random_tokens(60, random.Random(seed)).tokens()
    loads = [0] * figure8.NODES
    for (previous, _), (position, _) in zip([tokens[-1], *tokens], tokens, strict=False):
        arc = (int.from_bytes(position, "big") - int.from_bytes(previous, "big")) % (1 << 128)
        for node in walk(tokens, previous, figure8.REPLICAS):
            loads[node] += arc
    assert sum(loads) == figure8.REPLICAS << 128
    assert figure8.strategy_1(60, random.Random(seed)) == figure8.efficiency(loads)


@pytest.mark.parametrize("seed", range(3))
def test_strategies_2_and_3_count_partitions(seed: int) -> None:
    tokens = figure8.random_tokens(60, random.Random(seed)).tokens()
    loads = [0] * figure8.NODES
    for partition in range(figure8.PARTITIONS_OF_STRATEGY_2):
        for node in walk(tokens, (partition << 118).to_bytes(16, "big"), figure8.REPLICAS):
            loads[node] += 1
    assert figure8.strategy_2(60, random.Random(seed)) == figure8.efficiency(loads)

    owners = [node for node in range(figure8.NODES) for _ in range(2)]
    random.Random(seed).shuffle(owners)
    loads = [0] * figure8.NODES
    for partition in range(60):
        for node in list(dict.fromkeys(owners[partition:] + owners[:partition]))[: figure8.REPLICAS]:
            loads[node] += 1
    assert figure8.strategy_3(60, random.Random(seed)) == figure8.efficiency(loads)
