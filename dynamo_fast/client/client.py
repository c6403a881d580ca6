"""`dynamo_fast.connect`: a client of a cluster, for trio. Start reading the client here.

A request walks: Bucket (bucket.py: arguments) -> Caller (attempts.py: send, judge, retry) -> Router (routing.py: which node) -> Node
(pool.py: its connection) -> Connection (connection.py: frames). The client owns one nursery, in which everything of it lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from dynamo_fast.client.bucket import Bucket, Options
from dynamo_fast.client.settings import Settings
from dynamo_fast.client.shared import Shared


class Client(Bucket):
    """A connected client: the default bucket, `bucket(name)` for the others, `cluster` for questions about the cluster."""

    def __init__(self, shared: Shared, options: Options) -> None:
        super().__init__(shared, b"", options)
        self.cluster = shared.cluster

    def statistics(self) -> dict[str, Any]:
        """Retries, refreshes of the placement, and per node: whether connected, latency in seconds, requests in flight, bytes queued."""
        shared = self._shared
        nodes = {
            address: {"connected": node.connection is not None, "latency_s": node.latency_s}
            | (node.connection.statistics() if node.connection is not None else {})
            for address, node in shared.pool.nodes.items()
        }
        return {"retries": shared.caller.retries, "refreshes": shared.router.refreshes,
                "failed_refreshes": shared.router.failed_refreshes, "nodes": nodes}  # fmt: skip


@asynccontextmanager
async def connect(seeds: Iterable[str] | str = "127.0.0.1:7400", *, options: Options | None = None,
                  settings: Settings | None = None, **changes: Any) -> AsyncIterator[Client]:  # fmt: skip
    """`async with connect(["10.0.0.1:7400", ...]) as db:` - a client of the cluster that the seeds belong to.

    seeds: addresses `host[:port]`, in a list or separated by commas; any one alive is enough, and a name may have several addresses.
    options: per-request defaults (Options); settings: limits and waits (Settings); any field of either may be given by its own name, as
    in `connect(seeds, r=1, deadline_s=0.5, partition_aware=False)`; the latter sends everything to the seeds, for use behind a load
    balancer.

    Raises Unreachable, NotReady or WrongCluster when no seed can be used within `connect_timeout_s`, ValueError for a bad address,
    TypeError for an unknown field. Leaving the block cancels what is still in flight and closes every connection.
    """
    options, settings = options or Options(), settings or Settings()
    known_options, known_settings = set(Options.__slots__), set(Settings.__slots__)
    if unknown := set(changes) - known_options - known_settings:
        raise TypeError(f"connect has no option {', '.join(sorted(unknown))}")
    options = Options(**_fields(options) | {name: value for name, value in changes.items() if name in known_options})
    settings = Settings(**_fields(settings) | {name: value for name, value in changes.items() if name in known_settings})
    addresses = [seed for seed in (seeds.split(",") if isinstance(seeds, str) else seeds) if seed.strip()]
    if not addresses:
        raise ValueError("connect needs at least one seed, as host:port")
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            shared = Shared(nursery, addresses, settings)
            nursery.start_soon(shared.sweep)
            await shared.router.start()
            nursery.start_soon(shared.router.run)
            yield Client(shared, options)
        except BaseException as error:  # raised again below, outside the nursery, which would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _fields(instance: Options | Settings) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in instance.__slots__}
