"""One exchange of anti-entropy that this node has begun with one peer, from the roots to the objects.

As a rule it is about all partitions that both are homes of, and brings both sides what they lack. A transfer limits it to the partitions
that this node gains, and wants to know which of them have all that the peer has; who parts with old copies limits it too, gives and takes
nothing (`push_only`), and wants to know which are safe on the peer's disk (`durable`). `in_line` tells them.

`run` reads from top to bottom as the exchange goes; what is compared is decided in `exchange.py`, what is moved is moved by `delivery.py`,
and the other side of every question is in `anti_entropy.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dynamo_fast.core.placement import Placement
from dynamo_fast.node.delivery import Entry, Pulled, own_entry
from dynamo_fast.node.exchange import BadAnswer, Difference, Side, differences, portions, unpack_listing, ways
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.node.slices import Slice
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.status import Status

if TYPE_CHECKING:
    from dynamo_fast.node.anti_entropy import AntiEntropy

SETTLE_S = 0.25  # in which a write that is under way reaches all homes it can reach
STEP_LEVELS = 4  # of the tree, in one message
GATHERED_AT_ONCE = 64  # partitions whose trees are walked down side by side: a question costs little more for many than for one
PENDING_MAX = 4096  # differences known and not yet settled: the memory of an exchange, about 1 MiB
MISSING_MAX = 4096  # keys that a peer lists and then does not have, in one exchange
FRAMES_BYTES = 48  # headers of a request and its reply

T = TypeVar("T")
S = TypeVar("S", bound=replica.StepReply)


@dataclass
class Tally:
    """What exchanges have done; `bytes` are those of comparing, both ways, objects left out. Partitions count once for each peer."""

    compared: int = 0  # equal, or made so
    differing: int = 0  # of those, how many had not been
    keys_pulled: int = 0
    keys_pushed: int = 0
    refused: int = 0  # how many could not be merged: together they are more than an object can count, or the place is another key's
    settled_meanwhile: int = 0  # keys that were listed as differing and did not when looked at again
    bytes: int = 0

    def add(self, other: Tally) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Terms:
    """What an exchange is about."""

    placement: Placement  # that it names, and both sides go by
    partitions: Sequence[int] | None = None  # ascending; the peer must be a home of them. None: all that both are homes of
    push_only: bool = False  # the peer gets what it lacks, and nothing is fetched from it
    durable: bool = False  # only what is on the peer's disk counts as in line


class Meeting:
    """One exchange of this node's with one peer, under one placement.

    `in_line`: partitions in which we hold all that the peer held when the exchange began, merged and maybe not synced; or, if nothing is
    fetched, in which the peer holds all that we held then. INVARIANT: what is in it stays true when the exchange ends early.
    """

    def __init__(self, node: AntiEntropy, session: Session, tally: Tally, terms: Terms) -> None:
        assert session.node_id is not None, "only with members"
        self.peer = session.node_id
        self.in_line: set[int] = set()
        self._node = node
        self._session = session
        self._tally = tally
        self._env, self._engine = node.env, node.engine
        self._terms = terms
        self._placement = terms.placement.name
        self._limited = terms.partitions is not None
        self._pending: list[Difference] = []
        self._until_durable: set[int] = set()  # in line once the peer has synced
        self._unsure: set[int] = set()  # partitions in which one may still lack something that it ought to get from the other
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

    async def _ask_slowly(self, request: messages.Request, wanted: type[S]) -> S:
        """As a step of background work: what the question costs both sides counts."""
        async with self._node.admission.slot(self.peer) as slot:
            reply = await self._ask(request, wanted)
            slot.pause_us = reply.pause_us
            return reply

    async def run(self) -> None:
        asked = self._terms.partitions
        partitions = self._node.shared(self.peer, self._terms.placement) if asked is None else list(asked)
        if not partitions:
            return
        suspects = [] if self._limited else self._node.suspects_with(self.peer)
        await self._node.recount(suspects)
        differing = await self._compare(partitions if self._limited else None, partitions)
        equal = set(partitions) - set(differing) - self._left
        self._found_equal(equal)
        await self._node.trust(self._terms.placement, self.peer, sorted(equal.intersection(suspects)))
        self._count(compared=len(equal))
        if differing:
            await self._env.sleep(SETTLE_S)
            await self._bring_in_line(differing, suspects)
        elif not self._limited:
            return  # that nothing differed is all that the peer waits to hear
        await self._end()

    async def _bring_in_line(self, differing: list[int], suspects: list[int]) -> None:
        # Where nothing is fetched, nobody else can bring us the same.
        mine = differing if self._terms.push_only else self._node.claim(self.peer, differing)
        left_before = len(self._left)
        still = await self._compare(mine, mine)
        self._found_equal(set(mine) - set(still) - self._left)
        self._count(compared=len(mine) - len(still) - (len(self._left) - left_before), differing=len(still))
        self._left |= set(differing) - set(mine)
        gathered: list[int] = []
        # Those that may have lost something come first.
        order = sorted(still, key=lambda one: one not in suspects)
        for at in range(0, len(order), GATHERED_AT_ONCE):
            some = sorted(order[at : at + GATHERED_AT_ONCE])
            await self._gather(some)
            gathered += some
            if len(self._pending) >= PENDING_MAX // 2:
                await self._settle()
                self._made_equal(gathered)
                gathered = []
        await self._settle()
        self._made_equal(gathered)
        unsure = self._left | self._unsure
        taken = [one for one in suspects if one in differing and one not in unsure]
        await self._node.trust(self._terms.placement, self.peer, taken)

    def _made_equal(self, gathered: list[int]) -> None:
        """All that was found to differ in these partitions has been settled."""
        self._count(compared=len(gathered))
        self._found_equal(set(gathered) - self._unsure)

    def _found_equal(self, partitions: set[int]) -> None:
        if self._terms.durable:
            self._until_durable |= partitions
        else:
            self.in_line |= partitions

    async def _end(self) -> None:
        """Says that the exchange is over. CallFailed with OVERLOAD when something was left to others."""
        whole = not self._left
        await self._compare([], [], finished=whole and not self._limited)
        self.in_line |= self._until_durable
        if not whole:
            raise CallFailed("some partitions are being brought in line with another node", Status.OVERLOAD)

    async def _compare(self, asked: list[int] | None, partitions: list[int], *, finished: bool = False) -> list[int]:
        """Those of the partitions whose roots differ."""
        roots = await self._node.roots(partitions)
        # What the peer has merged by the end is on its disk if it says so then.
        durable = self._terms.durable and asked == []
        request = replica.CompareRequest(placement=self._placement, partitions=asked, roots=roots, finished=finished, durable=durable)
        reply = await self._ask(request, replica.CompareReply)
        if not {*reply.differing, *reply.busy} <= set(partitions) or {*reply.differing} & {*reply.busy}:
            raise BadAnswer("partitions differ that were not compared")
        self._left |= set(reply.busy)
        return sorted(set(reply.differing))

    async def _gather(self, partitions: list[int]) -> None:
        """Finds what differs in these partitions, which ascend; settles it in between when it is much."""
        leaves = await self._differing_leaves(partitions)
        for portion in portions(leaves, self._engine.forest.leaf_count, replica.LEAVES_MAX):
            await self._list(portion)

    async def _list(self, leaves: list[int]) -> None:
        """Finds what differs in these leaves, which are all that differ of their trees."""
        forest = self._engine.forest
        ranges = self._node.ranges(leaves)
        ours, theirs = Side(ranges), Side(ranges)
        alike = {leaf // forest.leaf_count for leaf in leaves}
        while not (ours.done and theirs.done):
            if not theirs.done and not theirs.entries:
                request = replica.EntriesRequest(placement=self._placement, leaves=leaves, after=theirs.after)
                reply = await self._ask_slowly(request, replica.EntriesReply)
                theirs.add(unpack_listing(reply.entries), reply.done)
            if not ours.done and not ours.entries:
                slice_ = Slice(self._env)
                ours.add(*await self._node.listing(ranges, ours.after, slice_))
                self._node.admission.charge(slice_.worked_s)
            new = differences(ours, theirs)
            alike.difference_update(forest.place(one.store_key[:16])[0] for one in new)
            self._pending += new
            if len(self._pending) >= PENDING_MAX or self._env.rarely("exchange: settled in the middle of a partition"):
                await self._settle()
        if alike:
            # The trees differ and the keys do not: one of them has the hash of a record that is gone.
            wrong = [leaf for leaf in leaves if leaf // forest.leaf_count in alike]
            await self._node.recompute(wrong, Slice(self._env))
            await self._ask_slowly(replica.EntriesRequest(placement=self._placement, leaves=wrong, recompute=True), replica.EntriesReply)

    async def _differing_leaves(self, partitions: list[int]) -> list[int]:
        forest = self._engine.forest
        bits = forest.leaf_count.bit_length() - 1
        level, nodes = 0, partitions
        while level < bits and nodes:
            depth = min(STEP_LEVELS, bits - level)
            below: list[int] = []
            for at in range(0, len(nodes), replica.NODES_MAX):
                some = nodes[at : at + replica.NODES_MAX]
                request = replica.TreeRequest(placement=self._placement, level=level, nodes=some, depth=depth)
                reply = await self._ask_slowly(request, replica.TreeReply)
                try:
                    below += forest.differing(level, some, depth, reply.hashes)
                except ValueError as error:
                    raise BadAnswer(str(error)) from error
            nodes = below
            level += depth
        return nodes

    async def _settle(self) -> None:
        """Moves what has to move for the differences found so far, and forgets them.

        A key whose version here is another one than was listed was written to meanwhile, or brought by somebody else: it waits for
        the next exchange, if there is still something to do then. Where the partition is to be in line that would be for ever, as long as
        the key is written to often: there the peer's object is fetched whatever ours is by then.
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
        changed: list[bytes] = []
        slice_ = Slice(self._env)
        for store_key, outline in outlined:
            entry = own_entry(self._engine, store_key)
            if entry is None or entry.hash != ours[store_key]:
                self._count(settled_meanwhile=1)
                changed.append(store_key)
                continue
            way = ways(entry.packed, outline)
            if way.pull and not self._terms.push_only:
                pull[store_key] = entry.hash
            if way.push:
                push.append(store_key)
            if not (way.pull or way.push):
                self._count(settled_meanwhile=1)
            await slice_.over()
        await self._fetch_again(changed)
        await self._pull(pull)
        # What had to come first has: where both knew something, it is the merge that goes back.
        entries = (own_entry(self._engine, store_key) for store_key in push)
        await self._node.delivery.push(self._session, self._placement, filter(None, entries), self._pushed)

    async def _pull(self, wanted: Mapping[bytes, int | None]) -> None:
        if self._terms.push_only:
            return
        pulled = await self._node.delivery.pull(self._session, self._placement, wanted)
        self._count(settled_meanwhile=len(pulled.passed_over))
        self._fetched(pulled, wanted)
        await self._fetch_again(pulled.passed_over)

    async def _fetch_again(self, changed: Sequence[bytes]) -> None:
        """What becomes of keys that were written to here since they were listed."""
        if self._terms.push_only or not self._limited:
            self._doubt(changed)
        elif changed:
            wanted = dict.fromkeys(changed)
            self._fetched(await self._node.delivery.pull(self._session, self._placement, wanted, whatever_is_here=True), wanted)

    def _fetched(self, pulled: Pulled, wanted: Iterable[bytes]) -> None:
        self._count(keys_pulled=pulled.fetched, refused=pulled.refused)
        if pulled.absent or pulled.refused:
            self._doubt(wanted)
        self._missing += pulled.absent
        if self._missing > MISSING_MAX:
            raise BadAnswer(f"{self._missing} keys were listed that are not there")

    def _doubt(self, store_keys: Iterable[bytes]) -> None:
        self._unsure.update(self._engine.forest.place(store_key[:16])[0] for store_key in store_keys)

    def _pushed(self, entry: Entry, status: int, hash: int) -> None:
        self._count(keys_pushed=1, refused=status != Status.OK)
        if status != Status.OK and self._terms.push_only:
            self._doubt([entry.store_key])
