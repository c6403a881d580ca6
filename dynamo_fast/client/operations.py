"""What a client may ask about the cluster itself: how its nodes are, who owns what, and the buckets' settings."""

from __future__ import annotations

from typing import TypeVar

import trio

from dynamo_fast.client.errors import DynamoError, NotApplied, NotReady, Unknown
from dynamo_fast.client.pool import Node
from dynamo_fast.client.routing import Router
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.control_messages import (
    BucketEntry,
    BucketListReply,
    BucketListRequest,
    BucketSetReply,
    BucketSetRequest,
    HintsReply,
    HintsRequest,
    PlacementReply,
    RepairReply,
    RepairRequest,
    Reply,
    Request,
    RingInfoReply,
    RingInfoRequest,
    StatusReply,
    StatusRequest,
)

T = TypeVar("T", bound=Reply)
GOSSIP_WAIT_S, GOSSIP_POLL_S = 5.0, 0.05


class Cluster:
    """`db.cluster`. Every method raises DynamoError when the nodes asked do not answer in `deadline_s` seconds (None: the client's)."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def placement(self) -> PlacementReply:
        """The placement in force: nodes, partitions, preference lists, buckets, defaults, limits. Asked for if not known yet."""
        if self._router.placement is None:
            await self._router.refresh()
        assert self._router.placement is not None
        return self._router.placement

    async def status(self, deadline_s: float | None = None) -> dict[str, StatusReply | DynamoError]:
        """By address, each node's own account of itself, or why it gave none. Before there is a cluster: of the seeds."""
        return await self._everyone(StatusRequest(), StatusReply, deadline_s)

    async def hints(self, deadline_s: float | None = None) -> dict[str, HintsReply | DynamoError]:
        """By address, what each node keeps for others who could not be reached, or why it did not say."""
        return await self._everyone(HintsRequest(), HintsReply, deadline_s)

    async def _everyone(self, request: Request, wanted: type[T], deadline_s: float | None) -> dict[str, T | DynamoError]:
        """The answer of every node, by address, asked side by side."""
        try:
            addresses = [member.address for member in (await self.placement()).nodes]
        except NotReady:
            addresses = [node.address for node in self._router.members()]
        found: dict[str, T | DynamoError] = {}

        async def ask(address: str) -> None:
            found[address] = await self._one(address, request, wanted, deadline_s)

        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(ask, address)
        if any(isinstance(answer, DynamoError) for answer in found.values()):
            self._router.refresh_soon()  # who does not answer may have moved
        return {address: found[address] for address in addresses}

    async def ring(self, deadline_s: float | None = None) -> RingInfoReply:
        """Who owns how much, as the first node that answers sees it."""
        return await self._any(RingInfoRequest(), RingInfoReply, deadline_s)

    async def buckets(self, deadline_s: float | None = None) -> BucketListReply:
        """Every bucket with settings of its own, and the cluster's defaults."""
        return await self._any(BucketListRequest(), BucketListReply, deadline_s)

    async def set_bucket(self, name: str | bytes, settings: BucketSettings, deadline_s: float | None = None) -> bool:
        """Gives a bucket these settings as a whole. They travel by gossip, for about a second.

        Returns when every node that answers has them: True; or GOSSIP_WAIT_S later: False, they are set, and some node still lags.
        """
        entry = BucketEntry(name=name.encode() if isinstance(name, str) else name, settings=settings)
        await self._any(BucketSetRequest(name=entry.name, settings=settings), BucketSetReply, deadline_s)
        with trio.move_on_after(GOSSIP_WAIT_S):
            lagging = list(self._router.members())
            while lagging:
                lagging = [node for node in lagging if not await self._has_bucket(node, entry, deadline_s)]
                await trio.sleep(GOSSIP_POLL_S if lagging else 0)
            return True
        return False

    async def repair(self, address: str, run: int = 0, deadline_s: float | None = None) -> RepairReply:
        """Has the node at that address compare all it holds with every other home, now, and bring in line what differs.

        Returns at once: ask again with the `run` of the answer until it is `done`.
        """
        return _expect(RepairReply, await self._router.control(self._node(address), RepairRequest(run=run), deadline_s))

    def _node(self, address: str) -> Node:
        node = next((node for node in self._router.members() if node.address == address), None)
        if node is None:
            raise NotApplied(f"{address} is not among the nodes this client knows")
        return node

    async def _has_bucket(self, node: Node, entry: BucketEntry, deadline_s: float | None) -> bool:
        """Whether the node has the bucket so; a node that does not answer is not waited for."""
        try:
            return entry in _expect(BucketListReply, await self._router.control(node, BucketListRequest(), deadline_s)).buckets
        except DynamoError:
            return True

    async def _one(self, address: str, request: Request, wanted: type[T], deadline_s: float | None) -> T | DynamoError:
        try:
            return _expect(wanted, await self._router.control(self._node(address), request, deadline_s))
        except DynamoError as error:
            return error

    async def _any(self, request: Request, wanted: type[T], deadline_s: float | None) -> T:
        """The answer of the cheapest node that gives one. A refusal is final; a node that is not there leads to the next."""
        failure: DynamoError | None = None
        for node in sorted(self._router.members(), key=lambda node: node.cost(trio.current_time())):
            try:
                return _expect(wanted, await self._router.control(node, request, deadline_s))
            except DynamoError as error:
                failure = error
        assert failure is not None
        raise failure


def _expect(wanted: type[T], reply: Reply) -> T:
    if not isinstance(reply, wanted):
        raise Unknown(f"wanted {wanted.__name__}, got {type(reply).__name__}")
    return reply
