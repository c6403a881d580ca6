"""Every limit and wait of a client, in one place, each with its unit and bound."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields

import trio

Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]  # host, port -> a connected stream; OSError when nobody answers
KEY_BYTES_MAX, BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX = 4096, 64, 65535  # what the protocol's fields and the cluster's rules allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a client behaves; every number must be positive. ValueError names the field that is not."""

    partition_aware: bool = True  # False: send everything to the seeds, which may be load balancers, and let nodes forward
    deadline_s: float = 1.0  # of a request that names none; a batch has one deadline per window
    deadline_s_max: float = 60.0  # more than this is refused here as it would be there
    connect_timeout_s: float = 5.0  # until some seed must have answered, when the client starts
    connect_grace_s: float = 0.1  # then, for the other nodes to be connected too, so that the first requests are spread
    dial_timeout_s: float = 2.0  # one connection, hello included
    backoff_s_min: float = 0.05  # wait after a node could not be dialled; doubles each time
    backoff_s_max: float = 2.0
    refresh_s: float = 10.0  # how often the placement is asked for
    sweep_s: float = 0.05  # how often deadlines are looked at: a silent node is noticed this much late
    attempts_max: int = 10  # of one request
    retry_pause_s_min: float = 0.005  # before the second attempt at a node that said "overload"; doubles each time
    requests_in_flight_max: int = 1024  # per connection; more wait their turn
    outgoing_bytes_max: int = 16 << 20  # per connection, not yet given to the kernel; more wait their turn
    value_bytes_max: int = 1 << 20  # of one put, until the cluster has told its own limit
    answer_bytes_max: int = 128 << 20  # of one answer: as many siblings as a cluster may keep, each of the longest
    batch_requests_max: int = 1000  # a get_many or put_many is cut into windows of so many requests ...
    batch_bytes_max: int = 8 << 20  # ... or so many bytes of values, whichever comes first
    connections_eager_max: int = 64  # so many nodes are connected before, and whether or not, anybody needs them
    dial: Dial = trio.open_tcp_stream
    random_bytes: Callable[[int], bytes] = os.urandom

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{field.name}={value!r} must be more than 0")
