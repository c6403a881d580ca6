"""R, W, DW, strict and the deadline of one request: what it asks over its bucket's settings over the cluster's defaults.

One pure function merges the three, so that no path through the node can forget a level (a default that was ignored has cost others
real data). Paper sections 2.3 and 4.5. Rules:

* R and W are 1..N, DW is 0..N; a put waits for max(W, DW) replicas, DW of them on disk. Anything else is refused, never bent.
* A cluster with fewer members than N has that many replicas. Defaults, written with N in mind, then mean "all of them"; a request that
  names a number larger than there are replicas is refused, since it asks for a safety that nobody can give.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Reconcile = Literal["siblings", "last-write-wins"]
BUCKET_NAME_BYTES_MAX = 64
RECONCILE_VALUES: tuple[Reconcile, ...] = ("siblings", "last-write-wins")


class OptionsError(ValueError):
    """A number out of its range, named in the message together with the range."""


class ClusterDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds where neither request nor bucket says otherwise. `r w dw` are written for `n` replicas."""

    n: int = 3
    r: int = 2
    w: int = 2
    dw: int = 1
    strict: bool = False
    deadline_ms: int = 1000
    deadline_ms_max: int = 60_000


class BucketSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one bucket says; None leaves it to the cluster. `reconcile` decides whether concurrent writes stay as siblings."""

    r: int | None = None
    w: int | None = None
    dw: int | None = None
    strict: bool | None = None
    reconcile: Reconcile = "siblings"

    @property
    def last_write_wins(self) -> bool:
        return self.reconcile == "last-write-wins"


class RequestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one request says; None leaves it to its bucket. `deadline_ms` is the time left when the request arrives."""

    r: int | None = None
    w: int | None = None
    dw: int | None = None
    strict: bool | None = None
    deadline_ms: int | None = None


class EffectiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one request gets: 1 <= r <= replicas, 1 <= w <= replicas, 0 <= dw <= w, deadline_ms >= 1."""

    r: int
    w: int
    dw: int
    strict: bool
    deadline_ms: int


BUCKET_SAYS_NOTHING = BucketSettings()


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise OptionsError(f"{name}={value} is out of range: {name} must be from {low} to {high} here")
    return value


def _count(name: str, low: int, asked: int | None, in_bucket: int | None, default: int, n: int, replicas: int) -> int:
    """One of R, W, DW: the request's own number must be possible now, a default only with all N replicas."""
    if asked is not None:
        return _in_range(name, asked, low, replicas)
    return min(_in_range(name, default if in_bucket is None else in_bucket, low, n), replicas)


def merge_options(request: RequestOptions, bucket: BucketSettings, cluster: ClusterDefaults, replicas: int) -> EffectiveOptions:
    """What the request gets with `replicas` (min(N, members)) homes per key; OptionsError names the number out of range."""
    _in_range("replicas", replicas, 1, cluster.n)
    w = _count("w", 1, request.w, bucket.w, cluster.w, cluster.n, replicas)
    dw = _count("dw", 0, request.dw, bucket.dw, cluster.dw, cluster.n, replicas)
    strict = bucket.strict if request.strict is None else request.strict
    deadline_ms = cluster.deadline_ms if request.deadline_ms is None else request.deadline_ms
    return EffectiveOptions(
        r=_count("r", 1, request.r, bucket.r, cluster.r, cluster.n, replicas),
        w=max(w, dw),
        dw=dw,
        strict=cluster.strict if strict is None else strict,
        deadline_ms=_in_range("deadline_ms", deadline_ms, 1, cluster.deadline_ms_max),
    )


def check_bucket(name: bytes, settings: BucketSettings, n: int) -> None:
    """Refuses a bucket that no cluster of N replicas could honour; OptionsError says which part and why."""
    if len(name) > BUCKET_NAME_BYTES_MAX:
        raise OptionsError(f"a bucket name of {len(name)} bytes is too long: at most {BUCKET_NAME_BYTES_MAX}")
    for field, value, low in (("r", settings.r, 1), ("w", settings.w, 1), ("dw", settings.dw, 0)):
        if value is not None:
            _in_range(field, value, low, n)
    if settings.reconcile not in RECONCILE_VALUES:
        raise OptionsError(f"reconcile={settings.reconcile!r} is unknown: {' or '.join(RECONCILE_VALUES)}")
