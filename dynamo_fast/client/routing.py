"""Which node a request goes to: straight to a home of its key, the one expected to answer first (paper 6.1 and 6.4).

The placement is learnt from any node that answers, asked for again every `refresh_s` seconds, of another member each time, and at once
when a reply says that it is stale, of whoever said so. So a client follows its cluster wherever that goes, also when none of the seeds is
a member any more, and a node that lags behind or was left behind does not keep it there. Among the homes of a key the cheapest by latency
times requests in flight is taken, so a slow home is avoided and equal ones share the load. When no home is left to try, the fallbacks are
asked in the partition's order: a node that is no home forwards, or coordinates itself when it reaches none either. Without a placement
(behind a load balancer) the seeds are all there is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import trio

from dynamo_fast.client.connection import Answers
from dynamo_fast.client.errors import DynamoError, NotApplied, Unknown, Unreachable, error_of
from dynamo_fast.client.pool import NOT_CONNECTED, UNLIKELY, Node, Pool
from dynamo_fast.core.ring import Ring
from dynamo_fast.wire.control_messages import ControlMessageError, PlacementReply, PlacementRequest, Reply, Request, decode_reply, encode
from dynamo_fast.wire.status import MessageType, Status

REFRESH_SPACING_S = 0.1  # at least so long between two refreshes, however many replies ask for one


class Router:
    """Chooses nodes; keeps the placement fresh."""

    def __init__(self, pool: Pool, seeds: Sequence[str]) -> None:
        self.placement: PlacementReply | None = None
        self.refreshes = 0
        self.failed_refreshes = 0
        self._pool = pool
        self._seeds = tuple(pool.node(seed) for seed in dict.fromkeys(seeds))
        self._aware = pool.settings.partition_aware
        self._ring: Ring | None = None
        self._homes: list[tuple[Node, ...]] = []  # by partition; empty without a placement
        self._members: tuple[Node, ...] = ()
        self._stale = trio.Event()
        self._failure: DynamoError | None = None  # why a connected seed was of no use at the start
        self._stale_by: Node | None = None  # who said last that the placement is stale
        self._asked = trio.lowlevel.ParkingLot()  # woken when the nodes have been asked for the placement, well or not
        self._turn = 0  # whose turn it is to be asked for the placement
        self._guests: list[Node] = []  # of no placement and no seeds, and being asked something

    def homes(self, bucket: bytes, key: bytes) -> tuple[Node, ...]:
        """The nodes that may coordinate a request for the key, in preference order."""
        if self._ring is None or not self._aware:
            return self._seeds
        return self._homes[self._ring.partition(key, bucket)]

    def homes_of(self, partition: int) -> tuple[Node, ...]:
        """The homes of one partition of the placement."""
        return self._homes[partition]

    def choose(self, bucket: bytes, key: bytes, homes: Sequence[Node], tried: Container[Node], now_s: float) -> Node:
        """The cheapest untried home; if there is none that may be reached, the first such node after the homes in the key's order. When all
        those have been tried, they again: what a node could not do a moment ago it may do now, and sooner than who is not there at all."""
        return (
            self._cheapest(homes, tried, now_s, UNLIKELY)
            or self._fallback(bucket, key, tried, now_s)
            or self._cheapest(homes, (), now_s, UNLIKELY)
            or self._fallback(bucket, key, (), now_s)
            or self._cheapest(homes, tried, now_s)
            or self._cheapest(homes, (), now_s)
            or self._seeds[0]
        )

    def _fallback(self, bucket: bytes, key: bytes, tried: Container[Node], now_s: float) -> Node | None:
        """The first untried node of the key's order that may be reached. Homes are in it, since a newer placement may have others."""
        if self._ring is None or not self._aware:
            return None
        order = (self._members[index] for index in self._ring.order_of(self._ring.partition(key, bucket)))
        return next((node for node in order if node not in tried and node.cost(now_s) < UNLIKELY), None)

    @property
    def alternatives(self) -> bool:
        """Whether there is more than one node to send to."""
        return len(self._receivers()) > 1

    @staticmethod
    def _cheapest(nodes: Iterable[Node], tried: Container[Node], now_s: float, cost_max: float = float("inf")) -> Node | None:
        best, best_cost = None, cost_max
        for node in nodes:
            if not tried or node not in tried:
                cost = node.cost(now_s)
                if cost < best_cost:
                    best, best_cost = node, cost
        return best

    def _receivers(self) -> tuple[Node, ...]:
        """Every node that requests may be sent to."""
        return (self._aware and self._members) or self._seeds

    def members(self) -> tuple[Node, ...]:
        """Every node of the placement, or the seeds without one."""
        return self._members or self._seeds

    @property
    def number(self) -> int:
        """Of the placement that is known; 0 when none is."""
        return self.placement.number if self.placement is not None else 0

    def refresh_soon(self, told_by: Node | None = None) -> None:
        """A reply said that the placement is stale; the node that said so may know the next one."""
        self._stale_by = told_by or self._stale_by
        self._stale.set()

    async def renewed(self, number: int, told_by: Node | None, until_s: float) -> None:
        """Returns when a later placement than that of this number is known, or the nodes have been asked for one, or at until_s (loop
        clock)."""
        if self._aware and self.number <= number:
            self.refresh_soon(told_by)
            with trio.move_on_at(until_s):
                await self._asked.park()

    async def start(self) -> None:
        """Returns when one seed is connected and, if wanted, the placement is known; Unreachable or NotReady when none is in time."""
        settings = self._pool.settings
        with trio.move_on_after(settings.connect_timeout_s) as scope:
            await self._find_cluster()
        if scope.cancelled_caught:
            raise self._failure or Unreachable(self._why_not())
        self._pool.keep_connected(self._receivers())
        with trio.move_on_after(settings.connect_grace_s):
            while any(node.dialling for node in self._receivers()):
                await self._pool.changed.park()

    async def _find_cluster(self) -> None:
        """Dials the seeds again and again until one is of use. Not bounded in time."""
        while True:
            for seed in self._seeds:
                seed.dial_soon()
            while not any(seed.connection for seed in self._seeds) and any(seed.dialling for seed in self._seeds):
                await self._pool.changed.park()
            if any(seed.connection for seed in self._seeds):
                try:
                    if self._aware:
                        await self.refresh()
                    return
                except DynamoError as error:
                    self._failure = error
            await trio.sleep(self._pool.settings.sweep_s)

    def _why_not(self) -> str:
        return "no seed answered: " + "; ".join(str(seed.failure or f"{seed.address}: no answer") for seed in self._seeds)

    async def run(self) -> None:
        """Task: refreshes while the client lives. A failed refresh changes nothing: the old placement still works, through forwarding."""
        settings = self._pool.settings
        while True:
            with trio.move_on_after(settings.refresh_s):
                await self._stale.wait()
            self._stale = trio.Event()
            if self._aware:
                told_by, self._stale_by = self._stale_by, None
                try:
                    await self.refresh(told_by)
                except DynamoError:
                    self.failed_refreshes += 1
            self._asked.unpark_all()
            await trio.sleep(REFRESH_SPACING_S)

    async def refresh(self, first: Node | None = None) -> None:
        """Asks nodes until one tells the placement; DynamoError of the last when none does. When `first` has nothing new, or fails, others
        are asked."""
        tried: set[Node] = set()
        number, told = self.number, False
        failure: DynamoError = Unreachable("no node to ask for the placement")
        while node := first or self._next_to_ask(tried):
            tried.add(node)
            last, first = first is None, None
            try:
                reply = await self.control(node, PlacementRequest())
            except DynamoError as error:
                failure = error
                continue
            if isinstance(reply, PlacementReply):
                try:
                    self._take(reply)
                    if last or self.number > number:
                        return
                    told = True
                    continue
                except (ValueError, OverflowError) as error:
                    failure = NotApplied(f"{node.address} told a placement that makes no sense: {error}")
                    continue
            failure = NotApplied(f"{node.address} answered our question for the placement with {type(reply).__name__}")
        if not told:
            raise failure

    def _next_to_ask(self, tried: Container[Node]) -> Node | None:
        """A member that is connected, another one each time; when that one fails, the cheapest there is. Seeds only where members fail: one
        that is a member no more may tell an old placement for ever, and be the cheapest, since nobody else asks it anything."""
        now_s = trio.current_time()
        if not tried and self._members:
            self._turn += 1
            node = self._members[self._turn % len(self._members)]
            if node.connection is not None:
                return node
        return self._cheapest(self._members, tried, now_s, NOT_CONNECTED) or self._cheapest((*self._members, *self._seeds), tried, now_s)

    def _take(self, placement: PlacementReply) -> None:
        """Puts a placement in force, unless we have it or a later one. A member that has moved is news under the same name."""
        self.refreshes += 1
        if self.placement is not None and (placement == self.placement or placement.number < self.placement.number):
            return
        nodes = [self._pool.node(member.address) for member in placement.nodes]
        self._ring = Ring(placement.partitions, placement.replicas, placement.preference_lists())
        self._homes = [tuple(nodes[index] for index in self._ring.homes_of(partition)) for partition in range(placement.partitions)]
        self._members = tuple(nodes)
        self.placement = placement
        self._forget_others()
        self._pool.keep_connected(self._receivers())

    def _forget_others(self) -> None:
        self._pool.keep({node.address for node in (*self._members, *self._seeds, *self._guests)}.__contains__)

    async def ask(self, address: str, request: Request, deadline_s: float | None = None) -> Reply:
        """One question of the control plane to the node at that address, which may be no member. DynamoError when it fails."""
        guest = self._pool.node(address)
        self._guests.append(guest)
        try:
            return await self.control(guest, request, deadline_s)
        finally:
            self._guests.remove(guest)
            self._forget_others()

    async def control(self, node: Node, request: Request, deadline_s: float | None = None) -> Reply:
        """One question of the control plane to one node; deadline_s: seconds from now. DynamoError when it fails."""
        now_s = trio.current_time()
        end_s = now_s + (deadline_s or self._pool.settings.deadline_s)
        connection = await node.connected(end_s)
        answers = Answers()
        connection.send(MessageType.CONTROL, encode(request), answers, now_s, end_s)
        await answers.wait()
        reply = answers.replies[0]
        assert reply is not None
        if isinstance(reply, DynamoError):
            raise reply
        if reply.status != Status.OK:
            raise error_of(reply.status, reply.body)
        return reply_in(reply.body, node.address)


def reply_in(body: bytes, name: str) -> Reply:
    """The reply to a question of the control plane; name: of the node, for the Unknown that unreadable bytes raise."""
    try:
        return decode_reply(body)
    except ControlMessageError as error:
        raise Unknown(f"the answer of {name} could not be read: {error}") from error
