"""The fake cluster on real loopback sockets, in a thread: for the blocking client and the commands, which run a loop of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.client.fake_node import FakeCluster


@contextmanager
def loopback_cluster(nodes: int = 3, replicas: int = 3, strangers: int = 0) -> Iterator[FakeCluster]:
    """A fake cluster whose nodes listen on 127.0.0.1, each on a port chosen by the system; and so many nodes that are no members yet."""
    started = threading.Event()
    made: list[FakeCluster] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    scopes: list[trio.CancelScope] = []

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            cluster = FakeCluster(nursery, nodes, replicas)
            for node in [*cluster.nodes, *(cluster.stranger() for _ in range(strangers))]:
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                node.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
                nursery.start_soon(trio.serve_listeners, node.serve, [listener])
            made.append(cluster)
            tokens.append(trio.lowlevel.current_trio_token())
            scopes.append(nursery.cancel_scope)
            started.set()

    thread = threading.Thread(target=trio.run, args=(live,), name="fake cluster")
    thread.start()
    try:
        assert started.wait(10), "the fake cluster did not start"
        yield made[0]
    finally:
        tokens[0].run_sync_soon(scopes[0].cancel)
        thread.join()
