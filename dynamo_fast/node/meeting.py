"""One exchange of anti-entropy that this node has begun with one peer, from the roots to the objects.

`run` reads from top to bottom as the exchange goes; what is compared is decided in `exchange.py`, what is moved is moved by `delivery.py`,
and the other side of every question is in `anti_entropy.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dynamo_fast.node.delivery import Entry, own_entry
from dynamo_fast.node.exchange import BadAnswer, Difference, Side, differences, unpack_listing, ways
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.status import Status

if TYPE_CHECKING:
    from dynamo_fast.node.anti_entropy import AntiEntropy

SETTLE_S = 0.25  # in which a write that is under way reaches all homes it can reach
STEP_LEVELS = 4  # of the tree, in one message
PENDING_MAX = 4096  # differences known and not yet settled: the memory of an exchange, about 1 MiB
MISSING_MAX = 4096  # keys that a peer lists and then does not have, in one exchange
FRAMES_BYTES = 48  # headers of a request and its reply

T = TypeVar("T", bound=messages.Reply)


@dataclass
class Tally:
    """What exchanges have done; `bytes` are those of comparing, both ways, objects left out. Partitions count once for each peer."""

    compared: int = 0  # equal, or made so
    differing: int = 0  # of those, how many had not been
    keys_pulled: int = 0
    keys_pushed: int = 0
    refused: int = 0  # how many could not be merged: their clock or siblings are full, or the place is another key's
    settled_meanwhile: int = 0  # keys that were listed as differing and did not when looked at again
    bytes: int = 0

    def add(self, other: Tally) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Meeting:
    """One exchange of this node's with one peer, under one placement."""

    def __init__(self, node: AntiEntropy, session: Session, tally: Tally) -> None:
        assert session.node_id is not None, "only with members"
        self._node = node
        self._session = session
        self._peer = session.node_id
        self._tally = tally
        self._env, self._engine = node.env, node.engine
        placement = node.cluster.placement
        self._placement = placement.name if placement is not None else 0
        self._pending: list[Difference] = []
        self._unsure: set[int] = set()  # partitions in which we may still lack something that the peer has
        self._missing = 0
        self._left: set[int] = set()  # partitions that differ and are another exchange's, of ours or of the peer's

    def _count(self, **counts: int) -> None:
        counted = Tally(**counts)
        self._tally.add(counted)
        self._node.total.add(counted)

    async def _ask(self, request: messages.Request, wanted: type[T]) -> T:
        body = messages.encode(request)
        answer = await self._session.call_encoded(body)
        self._count(bytes=len(body) + len(answer) + FRAMES_BYTES)
        try:
            reply = messages.decode_reply(answer)
        except messages.ControlMessageError as error:
            raise BadAnswer(str(error)) from error
        if not isinstance(reply, wanted):
            raise BadAnswer(f"wanted {wanted.__name__}, got {type(reply).__name__}")
        return reply

    async def _ask_slowly(self, request: messages.Request, wanted: type[T]) -> T:
        """As a step of background work: what the question costs both sides counts."""
        async with self._node.admission.slot():
            return await self._ask(request, wanted)

    async def run(self) -> None:
        shared = self._node.shared(self._peer)
        if not shared:
            return
        suspects = self._node.suspects_with(self._peer)
        await self._node.recount(suspects)
        differing = await self._compare(None, shared)
        await self._node.trust(self._peer, sorted(set(suspects) - set(differing)))
        self._count(compared=len(shared) - len(differing))
        if not differing:
            return
        await self._env.sleep(SETTLE_S)
        mine = self._node.claim(self._peer, differing)
        still = await self._compare(mine, mine)
        self._count(compared=len(mine) - len(still) - len(self._left), differing=len(still))
        self._left |= set(differing) - set(mine)
        gathered = 0
        # Those that may have lost something come first.
        for partition in sorted(still, key=lambda one: one not in suspects):
            await self._gather(partition)
            gathered += 1
            if len(self._pending) >= PENDING_MAX // 2:
                await self._settle()
                self._count(compared=gathered)
                gathered = 0
        await self._settle()
        self._count(compared=gathered)
        unsure = self._left | self._unsure
        await self._node.trust(self._peer, [one for one in suspects if one in differing and one not in unsure])
        whole = not self._left
        await self._compare([], [], finished=whole)
        if not whole:
            raise CallFailed("some partitions are being brought in line with another node", Status.OVERLOAD)

    async def _compare(self, asked: list[int] | None, partitions: list[int], *, finished: bool = False) -> list[int]:
        """Those of the partitions whose roots differ."""
        roots = await self._node.roots(partitions)
        request = replica.CompareRequest(placement=self._placement, partitions=asked, roots=roots, finished=finished)
        reply = await self._ask(request, replica.CompareReply)
        if not {*reply.differing, *reply.busy} <= set(partitions) or {*reply.differing} & {*reply.busy}:
            raise BadAnswer("partitions differ that were not compared")
        self._left |= set(reply.busy)
        return sorted(set(reply.differing))

    async def _gather(self, partition: int) -> None:
        """Finds what differs in a partition; settles it in between when it is much."""
        leaves = await self._differing_leaves(partition)
        if not leaves:
            return
        ranges = self._node.ranges(partition, leaves)
        ours, theirs = Side(ranges), Side(ranges)
        found = 0
        while not (ours.done and theirs.done):
            if not theirs.done and not theirs.entries:
                request = replica.EntriesRequest(placement=self._placement, partition=partition, leaves=leaves, after=theirs.after)
                reply = await self._ask_slowly(request, replica.EntriesReply)
                theirs.add(unpack_listing(reply.entries), reply.done)
            if not ours.done and not ours.entries:
                ours.add(*await self._node.listing(ranges, ours.after))
            new = differences(ours, theirs)
            found += len(new)
            self._pending += new
            if len(self._pending) >= PENDING_MAX:
                await self._settle()
        if not found:
            # The trees differ and the keys do not: one of them has the hash of a record that is gone.
            for leaf in leaves:
                self._engine.recompute(partition, leaf)
            request = replica.EntriesRequest(placement=self._placement, partition=partition, leaves=leaves, recompute=True)
            await self._ask_slowly(request, replica.EntriesReply)

    async def _differing_leaves(self, partition: int) -> list[int]:
        forest = self._engine.forest
        bits = forest.leaf_count.bit_length() - 1
        level, nodes = 0, [0]
        while level < bits and nodes:
            depth = min(STEP_LEVELS, bits - level)
            request = replica.TreeRequest(placement=self._placement, partition=partition, level=level, nodes=nodes, depth=depth)
            reply = await self._ask_slowly(request, replica.TreeReply)
            try:
                nodes = forest.differing(partition, level, nodes, depth, reply.hashes)
            except ValueError as error:
                raise BadAnswer(str(error)) from error
            level += depth
        return nodes

    async def _settle(self) -> None:
        """Moves what has to move for the differences found so far, and forgets them.

        A key whose version here is another one than was listed was written to meanwhile, or brought by somebody else: it waits for
        the next exchange, if there is still something to do then.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        await self._env.sleep(SETTLE_S)
        await self._pull({one.store_key: None for one in pending if one.ours is None})
        ours = {one.store_key: one.ours for one in pending if one.ours is not None}
        both = list(ours)
        while both:
            asked = both[: replica.OUTLINES_MAX]
            reply = await self._ask_slowly(replica.OutlinesRequest(placement=self._placement, keys=asked), replica.OutlinesReply)
            if not 0 < len(reply.outlines) <= len(asked):
                raise BadAnswer("outlines of other keys than were asked for")
            both = both[len(reply.outlines) :]
            await self._bring(ours, zip(asked, reply.outlines, strict=False))

    async def _bring(self, ours: Mapping[bytes, int], outlined: Iterable[tuple[bytes, bytes]]) -> None:
        """Moves the objects of keys of which we have one, given what the other side has now."""
        pull: dict[bytes, int | None] = {}
        push: list[bytes] = []
        slice_ = Slice(self._env)
        for store_key, outline in outlined:
            entry = own_entry(self._engine, store_key)
            if entry is None or entry.hash != ours[store_key]:
                self._count(settled_meanwhile=1)
                self._unsure.add(self._engine.forest.place(store_key[:16])[0])
                continue
            way = ways(entry.packed, outline)
            if way.pull:
                pull[store_key] = entry.hash
            if way.push:
                push.append(store_key)
            if not (way.pull or way.push):
                self._count(settled_meanwhile=1)
            await slice_.over()
        await self._pull(pull)
        # What had to come first has: where both knew something, it is the merge that goes back.
        entries = (own_entry(self._engine, store_key) for store_key in push)
        await self._node.delivery.push(self._session, self._placement, filter(None, entries), self._pushed)

    async def _pull(self, wanted: Mapping[bytes, int | None]) -> None:
        pulled = await self._node.delivery.pull(self._session, self._placement, wanted)
        self._count(keys_pulled=pulled.fetched, settled_meanwhile=len(pulled.passed_over), refused=pulled.refused)
        doubtful = wanted if pulled.absent or pulled.refused else pulled.passed_over
        self._unsure.update(self._engine.forest.place(store_key[:16])[0] for store_key in doubtful)
        self._missing += pulled.absent
        if self._missing > MISSING_MAX:
            raise BadAnswer(f"{self._missing} keys were listed that are not there")

    def _pushed(self, entry: Entry, status: int, hash: int) -> None:
        self._count(keys_pushed=1, refused=status != Status.OK)
