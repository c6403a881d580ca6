"""What a node has still to fetch before it may be read from as a home in the placement that comes, and from whom. Pure; transfer.py acts.

Two things must have happened with every partition that is gained (core/succession.gains says which these are, and from whom):
  * it has been streamed, in order of store key, from one home, or by turns from several: any of them goes on where another one ended;
  * after that, an exchange with each source has found that all it holds is here. Only this makes a partition complete. The stream is
    there because it moves many objects at half the price.
Where this node was a home before there is nothing to stream: it has what the others have, and only the exchanges are to come.

What has been streamed is remembered across restarts, as cursors: by partition, up to which store key. They say what need not be sent
again and not what is complete, so an old or a lost one does no harm. They are good for one placement that goes, whatever comes after it:
should another change take this one's place, what was streamed for it is still here, as nothing is parted with in the middle of a change.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from dynamo_fast.core.placement import Placement
from dynamo_fast.core.succession import gains
from dynamo_fast.node.keys import partition_range

ALL = b"all"  # a cursor: the whole partition has been streamed
FORMAT = 1


class Cursors(msgspec.Struct, frozen=True, kw_only=True):
    """The file of cursors."""

    format: int
    old: bytes  # digest of the placement that goes
    streamed: dict[int, bytes]  # by partition: the store key up to which it is here, or ALL


@dataclass
class Gained:
    """One partition that this node gains."""

    sources: set[bytes]  # that have not been found in line with us; ids
    after: bytes = b""  # all up to this store key has been streamed
    streamed: bool = False
    taken: bool = False  # somebody streams it now


@dataclass
class Fetched:
    """What came from one source."""

    objects: int = 0
    bytes: int = 0  # of keys and objects
    wire_bytes: int = 0  # of the messages they came in
    refused: int = 0  # objects that could not be merged here


@dataclass
class Gaining:
    """The partitions that one node gains in one change."""

    old: Placement
    new: Placement
    own: bytes
    cursors: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        were = self.old.node_ids.index(self.own) if self.own in self.old.node_ids else -1
        self.parts: dict[int, Gained] = {}
        self.left: dict[bytes, set[int]] = {}  # by source, the partitions of which it may have something that is not here
        for partition, sources in gains(self.old, self.new, self.own).items():
            cursor = self.cursors.get(partition, b"")
            whole = cursor == ALL or were in self.old.table[partition][: self.old.replicas]
            self.parts[partition] = Gained(set(sources), b"" if whole else cursor, whole)
            for source in sources:
                self.left.setdefault(source, set()).add(partition)
        # Those that were begun before come first.
        wanting = [one for one, part in self.parts.items() if not part.streamed]
        self._waiting = deque(sorted(wanting, key=lambda one: not self.parts[one].after))
        self._streams: Counter[bytes] = Counter()  # by source, those under way
        self.fetched: dict[bytes, Fetched] = {source: Fetched() for source in self.left}

    @property
    def new_here(self) -> list[int]:
        """The partitions of which this node was no home."""
        were = self.old.node_ids.index(self.own) if self.own in self.old.node_ids else -1
        return [one for one in self.parts if were not in self.old.table[one][: self.old.replicas]]

    @property
    def done(self) -> bool:
        return not any(self.left.values())

    def leave_out(self, dead: Collection[bytes]) -> None:
        """Nobody waits for these. A partition of which no source is left has come as far as it can."""
        for source in self.left.keys() & set(dead):
            self.in_line(source, self.left[source].copy())

    # Streams ----------------------------------------------------------------------------------------------------------------------

    def take_stream(self, reachable: Collection[bytes]) -> tuple[int, bytes] | None:
        """A partition to be streamed now, and from whom; None when there is none, or nobody is there for those that there are.

        From whoever has the fewest streams now, so that all sources share the work; one that goes before one that stays, since it has
        the least to do otherwise. To be given back with `end_stream`.
        """
        for _ in range(len(self._waiting)):
            partition = self._waiting.popleft()
            part = self.parts[partition]
            if part.streamed or not part.sources:
                continue
            there = [source for source in part.sources if source in reachable]
            if not there:
                self._waiting.append(partition)
                continue
            source = min(there, key=lambda one: (self._streams[one], one in self.new.node_ids, one))
            self._streams[source] += 1
            part.taken = True
            return partition, source
        return None

    def end_stream(self, partition: int, source: bytes) -> None:
        """It is over, or has to go on later, from this source or another."""
        self._streams[source] -= 1
        part = self.parts[partition]
        part.taken = False
        if not part.streamed:
            self._waiting.appendleft(partition)

    @property
    def all_streamed(self) -> bool:
        return all(part.streamed or not part.sources for part in self.parts.values())

    # Exchanges --------------------------------------------------------------------------------------------------------------------

    def to_meet(self, source: bytes) -> list[int]:
        """The partitions that may be compared with this source now: streamed to the end, and not in line with it yet."""
        return sorted(one for one in self.left[source] if self.parts[one].streamed)

    def in_line(self, source: bytes, partitions: Collection[int]) -> None:
        for partition in partitions:
            self.parts[partition].sources.discard(source)
            self.left[source].discard(partition)

    # Told -------------------------------------------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """How much has been streamed, 0 to 1: store keys are spread evenly over a partition, so a cursor tells how far it has come."""
        wanted = self.new_here
        if not wanted:
            return 1.0
        return sum(self._share_of(one) for one in wanted) / len(wanted)

    def _share_of(self, partition: int) -> float:
        part = self.parts[partition]
        if part.streamed or not part.after:
            return float(part.streamed)
        start, end = (int.from_bytes(key, "big") for key in partition_range(partition, self.old.partitions))
        return (int.from_bytes(part.after, "big") - start) / (end - start)

    def file(self) -> bytes:
        """What is to be remembered across restarts. To be made before, and written after, a sync of all that has been merged (!)."""
        streamed = {one: ALL if part.streamed else part.after for one in self.new_here if (part := self.parts[one]).streamed or part.after}
        return msgspec.msgpack.encode(Cursors(format=FORMAT, old=self.old.digest, streamed=streamed))


def read_cursors(data: bytes | None, old: Placement) -> dict[int, bytes]:
    """What was remembered of a change from this placement; nothing when the file is empty, of something else, or no such file at all."""
    try:
        cursors = msgspec.msgpack.decode(data or b"", type=Cursors)
    except msgspec.DecodeError:
        return {}
    if cursors.format != FORMAT or cursors.old != old.digest:
        return {}
    return {one: cursor for one, cursor in cursors.streamed.items() if cursor == ALL or len(cursor) == 24}
