"""What an object means, twice, as oracles for the packed one.

`History` is the specification: an object stands for the set of all puts it has seen, a merge is the union of two sets, and
which versions survive is a function of the set alone. `merge_entries` is the algorithm in plain dicts, for objects that no
history could bring about but that a peer may still send.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamo_fast.core.siblings import Dot, Sibling, Siblings
from tests.models.vector_clock import ModelClock


@dataclass(frozen=True, eq=False)
class Put:
    """One put: its version, and the puts that it superseded."""

    version: Sibling
    superseded: frozenset[Put]

    def newness(self) -> tuple[int, Dot]:
        return self.version.timestamp_ms, self.version.dot


@dataclass(frozen=True)
class History:
    """All puts that one object has seen."""

    puts: frozenset[Put] = field(default_factory=frozenset)

    def merge(self, other: History) -> History:
        return History(self.puts | other.puts)

    def put(self, value: bytes, *, node: bytes, epoch: int, wall_ms: int, context: History | None, request_id: bytes,
            tombstone: bool = False, overwrite: bool = False, last_write_wins: bool = False) -> History:
        seen = context.puts if context else frozenset()
        known = self.puts | seen
        highest = max((p.version.timestamp_ms for p in known), default=0)
        counter = 1 + max((p.version.dot.counter for p in known if p.version.dot[:2] == (node, epoch)), default=0)
        version = Sibling(value, tombstone, Dot(node, epoch, counter), max(wall_ms, highest + last_write_wins), request_id,
                          last_write_wins)
        superseded = seen | self.puts if overwrite or last_write_wins else seen
        return History(known | {Put(version, superseded)})

    def siblings(self) -> tuple[Sibling, ...]:
        """The versions that no put superseded; of those under last-write-wins only one that is newer than all puts."""
        superseded = frozenset().union(*(p.superseded for p in self.puts))
        newest = max((p.newness() for p in self.puts), default=None)
        survivors = [p for p in self.puts - superseded if not p.version.last_write_wins or p.newness() == newest]
        return tuple(sorted((p.version for p in survivors), key=lambda version: version.dot))

    def clock(self) -> ModelClock:
        clock = ModelClock()
        for put in self.puts:
            node, epoch, counter = put.version.dot
            clock = clock.merge(ModelClock({(node, epoch): (counter, put.version.timestamp_ms)}))
        return clock


def content_order(version: Sibling) -> tuple[object, ...]:
    """Which of two contents of one dot stays, should a dot ever have two."""
    flags = version.tombstone + 2 * version.last_write_wins
    return version.timestamp_ms, flags, len(version.value), version.request_id + version.value


def merge_entries(a: Siblings, b: Siblings) -> tuple[ModelClock, tuple[Sibling, ...]]:
    """The clock and the siblings that a merge of these two leaves, whatever they are."""
    clock_a, clock_b = ModelClock.of(a.clock), ModelClock.of(b.clock)
    clock = clock_a.merge(clock_b)
    versions_a, versions_b = ({version.dot: version for version in side.siblings} for side in (a, b))
    kept: dict[Dot, Sibling] = {}
    for versions, others, others_clock in ((versions_a, versions_b, clock_b), (versions_b, versions_a, clock_a)):
        for dot, version in versions.items():
            counter, _ = others_clock.events.get((dot.node, dot.epoch), (0, 0))
            if dot in others:
                kept[dot] = max(version, others[dot], key=content_order)
            elif dot.counter > counter:
                kept[dot] = version
    return clock, yield_to_newer(clock, kept)


def yield_to_newer(clock: ModelClock, kept: dict[Dot, Sibling]) -> tuple[Sibling, ...]:
    events = [(timestamp_ms, Dot(node, epoch, counter)) for (node, epoch), (counter, timestamp_ms) in clock.events.items()]
    flagged = [(version.timestamp_ms, dot) for dot, version in kept.items() if version.last_write_wins]
    newest = max(events + flagged, default=None)
    return tuple(
        version
        for dot, version in sorted(kept.items())
        if not version.last_write_wins or (version.timestamp_ms, dot) == newest
    )
