"""Figure 6 of the Dynamo paper: with few popular keys more nodes are out of balance than with many."""

from __future__ import annotations

from bench.paper import figure6


def test_more_nodes_are_out_of_balance_when_load_is_low() -> None:
    day = figure6.measure(customers=8_000)
    low, high = figure6.rows(day)
    assert low.ok
    assert low.figure > 2 * high.figure


def test_a_node_is_out_of_balance_beyond_15_percent_of_the_mean() -> None:
    assert figure6.out_of_balance([100, 100, 100, 100]) == 0
    assert figure6.out_of_balance([116, 84, 100, 100]) == 0.5
    assert figure6.out_of_balance([115, 85, 100, 100]) == 0
