"""What a client may ask of the cluster itself: how its nodes are, who owns what, the buckets' settings, and who its members are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from dynamo_fast.client.errors import BadRequest, DynamoError, NotApplied, NotReady, Unknown, Unreachable, WrongCluster
from dynamo_fast.client.members import ChangeProgress, found, names_for_ids, newcomer, progress_of
from dynamo_fast.client.pool import Node
from dynamo_fast.client.routing import Router
from dynamo_fast.core.membership import Join, Leave, MemberChange, NodeEntry, Replace, WeightChange, ZoneChange
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.env import format_address, parse_address
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
from dynamo_fast.wire.membership_messages import ChangeReply, ChangeRequest

T = TypeVar("T", bound=Reply)
GOSSIP_WAIT_S, GOSSIP_POLL_S = 5.0, 0.05
NEWCOMER_WAIT_S, NEWCOMER_POLL_S = 5.0, 0.1  # until a node that has just been started is there and has heard of the cluster
CHANGE_DEADLINE_S = 10.0  # for a node to compute the next placement and to have the change on its disk
ALIVE_S = 1.0  # a member that is said to be dead is given so long to say otherwise
SETTLED_POLL_S = 0.25


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
        """By address, each node's own account of itself, or why it gave none. Before there is a cluster: of the seeds.

        While members change, those that come and those that go are asked too.
        """
        nodes = await self._everyone(StatusRequest(), StatusReply, deadline_s)
        beside = {entry.address for status in nodes.values() if isinstance(status, StatusReply) for entry in status.beside} - nodes.keys()

        async def ask(address: str) -> None:
            try:
                nodes[address] = _expect(StatusReply, await self._router.ask(address, StatusRequest(), deadline_s))
            except DynamoError as error:
                nodes[address] = error

        async with trio.open_nursery() as nursery:
            for address in sorted(beside):
                nursery.start_soon(ask, address)
        return nodes

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

    # Who the members are ------------------------------------------------------------------------------------------------------------

    async def join(self, *addresses: str, unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        """The nodes at these addresses become members, all in one step. They run, started with `--seeds`, and wait; one that was started a
        moment ago is waited for.

        Like all changes of members it returns when the change is on the disk of a member, which then goes on by itself: `wait_settled`
        waits until data has moved. BadRequest when it is refused, because a node must not become a member or the outcome would be less
        safe; `unsafe` insists on the latter. Unknown when the member that was asked did not answer in `deadline_s` (10 s if None): see
        `status` before asking again.
        """
        if not addresses:
            raise ValueError("nobody is named who should join")
        members, joining = await self._members(), []
        for address in addresses:
            status = await self._newcomer(address)
            entry = newcomer(status, members)
            joining.append(Join(member=entry))
            members.append(entry)
        return await self.change(joining, unsafe, deadline_s)

    async def leave(self, *names: str, dead: bool = False, unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        """These members leave for ever, all in one step; each is named by its address, by its host if it is alone there, or by the start
        of its id.

        A node that leaves hands over what it holds, and is waited for. `dead`: it will not come back, nobody waits for it, and what it
        alone holds is lost; refused for a node that answers unless `unsafe`. Errors as in `join`; ValueError for a name of nobody.
        """
        members = await self._members()
        leaving = list({node.id: node for node in (found(members, name) for name in names)}.values())
        if dead and not unsafe:
            await self._expect_dead(leaving)
        return await self.change([Leave(node_id=node.id, dead=dead) for node in leaving], unsafe, deadline_s)

    async def replace(
        self, old: str, new_address: str, *, dead: bool = False, unsafe: bool = False, deadline_s: float | None = None
    ) -> ChangeReply:
        """The node at `new_address`, as in `join`, takes all places of member `old`, which departs as in `leave`, and its weight."""
        members = await self._members()
        leaving = found(members, old)
        entry = newcomer(await self._newcomer(new_address), members, leaving)
        if dead and not unsafe and entry.address != leaving.address:
            await self._expect_dead([leaving])
        return await self.change([Replace(old=leaving.id, member=entry, dead=dead)], unsafe, deadline_s)

    async def set_weight(self, name: str, weight: int, *, unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        """A member, named as in `leave`, is to hold another share of the data: 1 to 65535, where 100 is usual. Errors as in `join`."""
        node = found(await self._members(), name)
        return await self.change([WeightChange(node_id=node.id, weight=weight)], unsafe, deadline_s)

    async def set_zone(self, host: str, zone: str, *, unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        """A machine, with all its members, counts as part of this zone. Errors as in `join`; ValueError when no member is on that host."""
        members = await self._members()
        if all(member.host != host for member in members):
            known = ", ".join(sorted({member.host for member in members}))
            raise ValueError(f"no member is on a host {host!r}: {known}")
        return await self.change([ZoneChange(host=host, zone=zone)], unsafe, deadline_s)

    async def change(self, changes: Sequence[MemberChange], unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        """Changes of members, all in one step. The first member that can be reached is asked, of those that are not to depart if there are
        others. Errors as in `join`."""
        if not changes:
            raise ValueError("nothing is to be changed")
        request = ChangeRequest(changes=list(changes), unsafe=unsafe)
        members = await self._members()
        departing = {change.node_id for change in changes if isinstance(change, Leave)}
        departing |= {change.old for change in changes if isinstance(change, Replace)}
        last = {member.address for member in members if member.id in departing}
        now_s = trio.current_time()
        failure: DynamoError = Unreachable("no member can be reached")
        for node in sorted(self._router.members(), key=lambda node: (node.address in last, node.cost(now_s))):
            try:
                return _expect(ChangeReply, await self._router.control(node, request, deadline_s or CHANGE_DEADLINE_S))
            except BadRequest as error:
                new = [change.member for change in changes if isinstance(change, Join | Replace)]
                raise BadRequest(names_for_ids(str(error), [*members, *new])) from error
            except NotApplied as error:  # it is away, starts, or has a disk that fails: another may be better off
                failure = error
        raise failure

    async def progress(self, deadline_s: float | None = None) -> ChangeProgress:
        """How far the cluster is with changes of its members."""
        return (await self._look(deadline_s))[1]

    async def wait_settled(
        self, timeout_s: float | None = None, look: Callable[[ChangeProgress], None] | None = None, *, at_least: int = 0
    ) -> bool:
        """Returns True when no change of members is under way or waits and nobody holds what is no longer its own; False when that takes
        longer than `timeout_s` seconds (None: it may take for ever, since a member that is away is waited for).

        look: called with every progress that is seen. at_least: a ChangeReply's `number`, that of the first placement which counts.
        """
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            while True:
                nodes, progress = await self._look()
                if look is not None:
                    look(progress)
                numbers = [status.placement_number for status in nodes.values() if isinstance(status, StatusReply)]
                if progress.settled and min(numbers) >= at_least:
                    return True
                await trio.sleep(SETTLED_POLL_S)
        return False

    async def _look(self, deadline_s: float | None = None) -> tuple[dict[str, StatusReply | DynamoError], ChangeProgress]:
        """Asks all nodes of the newest placement that can be had."""
        try:
            await self._router.refresh()
            nodes = await self.status(deadline_s)
        except DynamoError as error:  # nobody is there to tell the placement
            nodes = {node.address: error for node in self._router.members()}
        return nodes, progress_of(nodes)

    async def _members(self) -> list[NodeEntry]:
        """The nodes of the placement in force now, and those that take part beside them."""
        await self._router.refresh()
        members = {member.id: member for member in (await self.placement()).nodes}
        for status in (await self.status()).values():
            if isinstance(status, StatusReply):
                members = {entry.id: entry for entry in status.beside} | members
        return list(members.values())

    async def _newcomer(self, address: str) -> StatusReply:
        """The status of a node that is to become a member, once it is there and knows of the cluster."""
        address = format_address(parse_address(address))
        failure: DynamoError = Unreachable(f"{address} does not answer")
        with trio.move_on_after(NEWCOMER_WAIT_S):
            while True:
                try:
                    status = _expect(StatusReply, await self._router.ask(address, StatusRequest()))
                    if status.cluster_id is not None:
                        await self._expect_reachable(address, status)
                        return status
                    failure = BadRequest(f"{address} knows of no cluster: start it with --seeds that name members of this one")
                except BadRequest:
                    raise
                except WrongCluster as error:
                    raise BadRequest(f"{address} is a node of another cluster: start it with an empty data directory") from error
                except DynamoError as error:
                    failure = error
                await trio.sleep(NEWCOMER_POLL_S)
        raise failure

    async def _expect_reachable(self, address: str, status: StatusReply) -> None:
        """BadRequest when the node that answers at this address is not to be found where it says that others find it."""
        if status.address == address:
            return
        says = f"{address} says that it is reached at {status.address}"
        try:
            there = _expect(StatusReply, await self._router.ask(status.address, StatusRequest(), ALIVE_S))
        except DynamoError as error:
            raise BadRequest(f"{says}, and is not: start it with --advertise ({error})") from error
        if there.node_id != status.node_id:
            raise BadRequest(f"{says}, where another node is: start it with --advertise")

    async def _expect_dead(self, nodes: Sequence[NodeEntry]) -> None:
        """BadRequest when one of them answers."""
        for node in nodes:
            try:
                status = _expect(StatusReply, await self._router.ask(node.address, StatusRequest(), ALIVE_S))
            except DynamoError:
                continue
            if status.node_id == node.id:
                raise BadRequest(f"{node.address} answers, so it is not dead: let it leave with what it holds, or stop it first")

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
