"""The histogram: recording a value, reading a quantile, merging two."""

from typing import Any

from dynamo_fast.core.histogram import Histogram

VALUES = [(number * 2654435761) % 50_000_000 for number in range(1000)]


def filled() -> Histogram:
    histogram = Histogram()
    for value in VALUES:
        histogram.record(value)
    return histogram


def test_record_1000_values(benchmark: Any) -> None:
    histogram = Histogram()

    def record() -> None:
        for value in VALUES:
            histogram.record(value)

    benchmark(record)


def test_quantile(benchmark: Any) -> None:
    benchmark(filled().quantile, 0.999)


def test_merge(benchmark: Any) -> None:
    benchmark(filled().merge, filled())
