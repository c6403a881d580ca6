"""The one function that merges what a request, its bucket and the cluster say about R, W, DW, strict and the deadline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.options import (
    BUCKET_SAYS_NOTHING,
    BucketSettings,
    ClusterDefaults,
    OptionsError,
    RequestOptions,
    check_bucket,
    merge_options,
)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def levels(draw: st.DrawFn):
    """Cluster and bucket within their range, a request that may ask for anything, and how many replicas there are now."""
    n = draw(st.integers(1, 5))
    count, disk = st.integers(1, n), st.integers(0, n)
    cluster = ClusterDefaults(n=n, r=draw(count), w=draw(count), dw=draw(disk), strict=draw(st.booleans()),
                              deadline_ms=draw(st.integers(1, 500)), deadline_ms_max=500)  # fmt: skip
    bucket = BucketSettings(r=draw(maybe(count)), w=draw(maybe(count)), dw=draw(maybe(disk)), strict=draw(maybe(st.booleans())))
    wild = maybe(st.integers(-1, n + 2))
    request = RequestOptions(r=draw(wild), w=draw(wild), dw=draw(wild), strict=draw(maybe(st.booleans())),
                             deadline_ms=draw(maybe(st.integers(-1, 501))))  # fmt: skip
    return request, bucket, cluster, draw(st.integers(1, n))


def first(*values: object) -> object:
    return next(value for value in values if value is not None)


def possible(request: RequestOptions, replicas: int) -> bool:
    counts = [(request.r, 1), (request.w, 1), (request.dw, 0)]
    in_time = request.deadline_ms is None or 1 <= request.deadline_ms <= 500
    return in_time and all(value is None or low <= value <= replicas for value, low in counts)


@given(levels())
def test_the_nearest_level_that_speaks_decides_and_nothing_out_of_range_is_bent(case) -> None:
    request, bucket, cluster, replicas = case
    if not possible(request, replicas):
        with pytest.raises(OptionsError, match="out of range"):
            merge_options(request, bucket, cluster, replicas)
        return
    merged = merge_options(request, bucket, cluster, replicas)
    assert merged.r == min(first(request.r, bucket.r, cluster.r), replicas)
    assert merged.dw == min(first(request.dw, bucket.dw, cluster.dw), replicas)
    assert merged.w == max(min(first(request.w, bucket.w, cluster.w), replicas), merged.dw)
    assert merged.strict == first(request.strict, bucket.strict, cluster.strict)
    assert merged.deadline_ms == first(request.deadline_ms, cluster.deadline_ms)
    assert 1 <= merged.r <= replicas
    assert 0 <= merged.dw <= merged.w <= replicas


def test_the_paper_defaults_hold_where_nobody_says_anything() -> None:
    merged = merge_options(RequestOptions(), BUCKET_SAYS_NOTHING, ClusterDefaults(), 3)
    assert (merged.r, merged.w, merged.dw, merged.strict, merged.deadline_ms) == (2, 2, 1, False, 1000)


def test_a_request_for_more_replicas_than_there_are_names_the_range() -> None:
    with pytest.raises(OptionsError, match=r"w=2 is out of range: w must be from 1 to 1 here"):
        merge_options(RequestOptions(w=2), BUCKET_SAYS_NOTHING, ClusterDefaults(), 1)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        (b"x" * 65, BucketSettings(), "65 bytes is too long"),
        (b"", BucketSettings(r=4), "r=4 is out of range"),
        (b"cart", BucketSettings(w=0), "w=0 is out of range"),
        (b"cart", BucketSettings(dw=-1), "dw=-1 is out of range"),
        (b"cart", BucketSettings(reconcile="newest"), "siblings or last-write-wins"),
    ],
)
def test_a_bucket_that_no_cluster_could_honour_is_refused(name: bytes, settings: BucketSettings, said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        check_bucket(name, settings, 3)


def test_a_bucket_within_its_range_is_accepted() -> None:
    check_bucket(b"x" * 64, BucketSettings(r=3, w=3, dw=0, strict=True, reconcile="last-write-wins"), 3)
