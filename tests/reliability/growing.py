"""A cluster of real processes that grows and shrinks: nodes that wait to join, changes of members and how long they take."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

import dynamo_fast
from dynamo_fast.client.members import ChangeProgress
from dynamo_fast.wire.control_messages import StatusReply
from dynamo_fast.wire.membership_messages import ChangeReply
from tests.live.cluster import Cluster, Node, wait_until
from tests.live.raw import answers, status

CHANGE_S = 600.0  # after which a change is given up


class Growing:
    """`with Growing(directory, nodes=3) as cluster`; `waiting()` starts another node. `nodes` has all of them, in order of their start."""

    def __init__(self, directory: Path, nodes: int, config: str = '[log]\nlevel = "warning"\n') -> None:
        self._cluster = Cluster(directory, nodes, config=config)
        self._config = config
        self.nodes = list(self._cluster.nodes)

    def __enter__(self) -> Self:
        self._cluster.__enter__()
        try:
            self._cluster.wait_ready()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for node in self.nodes[len(self._cluster) :]:
            if node.running:
                node.kill()
            if error is not None:
                error.add_note(f"---- node {node.index} ({node.address}) ----\n{node.log_end()}")
        self._cluster.__exit__(kind, error, trace)

    def waiting(self) -> Node:
        """A node that was started with seeds and knows the cluster, ready to join it."""
        number = len(self.nodes)
        host = f"{self.nodes[0].host.rpartition('.')[0]}.{number + 1}"
        seeds = ",".join(node.address for node in self.nodes if node.running)
        node = Node(self._cluster.directory, number, host, ["--seeds", seeds], self._config)
        self.nodes.append(node)
        node.start()
        wait_until(lambda: answers(lambda reply: 0 < reply.members <= len(reply.peers_up), node.address), "a new node to know the cluster")
        return node


def addresses_of(*nodes: Node) -> list[str]:
    return [node.address for node in nodes]


class Took:
    """The seconds of one change: in all, and how long it was seen in which state."""

    def __init__(self) -> None:
        self._began = self._seen = time.monotonic()
        self._state = "asked for"
        self.by_state: dict[str, float] = {}

    def look(self, progress: ChangeProgress) -> None:
        now = time.monotonic()
        self.by_state[self._state] = self.by_state.get(self._state, 0.0) + now - self._seen
        if progress.to_number:
            self._state = progress.step
        else:
            self._state = "parting" if progress.old_copies or progress.handing_over else "news"
        self._seen = now

    def span(self, state: str) -> tuple[float, float]:
        """When that state began and ended, by time.monotonic(); it is one that was not left and come back to."""
        states = list(self.by_state)
        began = self._began + sum(self.by_state[one] for one in states[: states.index(state)])
        return began, began + self.by_state[state]

    @property
    def seconds(self) -> float:
        return round(self._seen - self._began, 1)

    def __str__(self) -> str:
        return f"{self.seconds:g} s (" + ", ".join(f"{state} {took:.1f}" for state, took in self.by_state.items()) + ")"


async def join(db: dynamo_fast.Client, *nodes: Node) -> Took:
    """All at once; returns when it has settled everywhere."""
    return await _settled(db, db.cluster.join(*addresses_of(*nodes)))


async def leave(db: dynamo_fast.Client, *nodes: Node) -> Took:
    """All at once; returns when it has settled and they may be stopped."""
    return await _settled(db, db.cluster.leave(*addresses_of(*nodes)))


async def _settled(db: dynamo_fast.Client, change: Awaitable[ChangeReply]) -> Took:
    took = Took()
    number = (await change).number
    if not await db.cluster.wait_settled(CHANGE_S, took.look, at_least=number):
        raise TimeoutError(f"placement {number} has not settled after {took}: {await db.cluster.progress()}")
    return took


async def told_by(node: Node) -> StatusReply:
    return await trio.to_thread.run_sync(status, node.address)
