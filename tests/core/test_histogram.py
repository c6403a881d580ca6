"""The histogram against sorted lists: quantiles err upwards only and by less than 1/64, and merging loses nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.histogram import Histogram

VALUES = st.lists(st.one_of(st.integers(0, 200), st.integers(0, 10**7), st.integers(0, 2**64 - 1)), min_size=1, max_size=200)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(VALUES, st.floats(0, 1))
def test_quantiles_err_upwards_by_less_than_a_64th(values: list[int], q: float) -> None:
    histogram = filled(values)
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    assert exact <= histogram.quantile(q) <= exact + exact // 64


@given(VALUES)
def test_count_max_and_buckets_are_exact(values: list[int]) -> None:
    histogram = filled(values)
    assert histogram.count == len(values)
    assert histogram.max == max(values) == histogram.quantile(1)
    assert sum(count for _, count in histogram.buckets()) == len(values)
    tops = [top for top, _ in histogram.buckets()]
    assert tops == sorted(set(tops))


@given(VALUES, VALUES)
def test_merge_equals_recording_both(one: list[int], two: list[int]) -> None:
    merged = filled(one)
    merged.merge(filled(two))
    both = filled(one + two)
    assert merged.buckets() == both.buckets()
    assert merged.as_dict() == both.as_dict()


def test_small_values_and_octave_edges_have_their_own_buckets() -> None:
    edges = [*range(129), 2**63 - 1, 2**63, 2**64 - 1]
    histogram = filled(edges)
    assert [top for top, _ in histogram.buckets()][:128] == list(range(128))
    assert histogram.quantile(1) == 2**64 - 1


def test_an_empty_and_a_reset_histogram_read_zero() -> None:
    histogram = filled([7, 9])
    assert histogram.mean == 8.0
    histogram.reset()
    assert histogram.as_dict() == Histogram().as_dict() == {
        "count": 0, "mean": 0.0, "p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0,
    }
    assert histogram.buckets() == []


def test_what_is_no_quantile_or_no_value_is_refused() -> None:
    histogram = Histogram()
    for q in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="lies in"):
            histogram.quantile(q)
    for value in (-1, 2**64):
        with pytest.raises(OverflowError):
            histogram.record(value)
    assert histogram.count == 0
