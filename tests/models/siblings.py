"""What an object means, twice, as oracles for the packed one.

`History` is the specification: an object stands for the set of all puts it has seen and the set of those it knows to be
superseded, seen or not; a merge is the union of both; and which versions survive is a function of the two sets alone. `merge_entries`
is the algorithm in plain dicts, for objects that no history could bring about but that a peer may still send.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamo_fast.core.siblings import Dot, Sibling, Siblings
from tests.models.vector_clock import ModelClock


def event(version: Sibling) -> tuple[bytes, int, int, int]:
    """What a context that has seen this version alone says of it."""
    return (*version.dot, version.timestamp_ms)


@dataclass(frozen=True, eq=False)
class Put:
    """One put: its version, and the puts that it superseded, by what its writer had seen or because it was told to."""

    version: Sibling
    superseded: frozenset[Put]

    def newness(self) -> tuple[int, Dot]:
        return self.version.timestamp_ms, self.version.dot


@dataclass(frozen=True)
class History:
    """What one object stands for.

    `superseded` may hold puts that are not among `puts`: the cloud. It does not hold all that the puts had superseded: who has seen
    a put by a context alone knows that it was, and not what it did.
    """

    puts: frozenset[Put] = field(default_factory=frozenset)
    superseded: frozenset[Put] = field(default_factory=frozenset)

    def merge(self, other: History) -> History:
        return History(self.puts | other.puts, self.superseded | other.superseded)

    def put(self, value: bytes, *, node: bytes, epoch: int, wall_ms: int, context: History | None, request_id: bytes,
            dot: Put | None = None, tombstone: bool = False, overwrite: bool = False, last_write_wins: bool = False) -> History:
        seen = context.puts if context else frozenset()
        known = self.puts | seen
        beyond = frozenset(() if dot is None else (dot,))
        highest = max((p.version.timestamp_ms for p in known | beyond), default=0)
        counter = 1 + max((p.version.dot.counter for p in known if p.version.dot[:2] == (node, epoch)), default=0)
        version = Sibling(value, tombstone, Dot(node, epoch, counter), max(wall_ms, highest + last_write_wins), request_id,
                          last_write_wins)
        superseded = seen | beyond | (self.puts if overwrite or last_write_wins else frozenset())
        return History(known | {Put(version, superseded)}, self.superseded | superseded)

    def siblings(self) -> tuple[Sibling, ...]:
        """The versions that no put superseded; of those under last-write-wins only one that is newer than all puts."""
        newest = max((p.newness() for p in self.puts), default=None)
        survivors = [p for p in self.puts - self.superseded if not p.version.last_write_wins or p.newness() == newest]
        return tuple(sorted((p.version for p in survivors), key=lambda version: version.dot))

    def cloud(self) -> tuple[Dot, ...]:
        """What was superseded before it was seen."""
        return tuple(sorted(p.version.dot for p in self.superseded - self.puts))

    def in_the_end(self) -> History:
        """The same puts, to one who knows what each of them superseded: what replicas converge to that have seen all of them."""
        return History(self.puts, frozenset().union(*(p.superseded for p in self.puts)))

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


def covered(clock: ModelClock, dot: Dot) -> bool:
    return clock.events.get((dot.node, dot.epoch), (0, 0))[0] >= dot.counter


def merge_entries(a: Siblings, b: Siblings) -> tuple[ModelClock, tuple[Sibling, ...], tuple[Dot, ...]]:
    """The clock, the siblings and the cloud that a merge of these two leaves, whatever they are."""
    clock_a, clock_b = ModelClock.of(a.clock), ModelClock.of(b.clock)
    clock = clock_a.merge(clock_b)
    versions_a, versions_b = ({version.dot: version for version in side.siblings} for side in (a, b))
    kept: dict[Dot, Sibling] = {}
    for versions, others, others_clock, others_cloud in (
        (versions_a, versions_b, clock_b, b.cloud), (versions_b, versions_a, clock_a, a.cloud),
    ):  # fmt: skip
        for dot, version in versions.items():
            if dot in others:
                kept[dot] = max(version, others[dot], key=content_order)
            elif not covered(others_clock, dot) and dot not in others_cloud:
                kept[dot] = version
    cloud = tuple(sorted(dot for dot in {*a.cloud, *b.cloud} if not covered(clock, dot)))
    return clock, yield_to_newer(clock, kept), cloud


def yield_to_newer(clock: ModelClock, kept: dict[Dot, Sibling]) -> tuple[Sibling, ...]:
    events = [(timestamp_ms, Dot(node, epoch, counter)) for (node, epoch), (counter, timestamp_ms) in clock.events.items()]
    flagged = [(version.timestamp_ms, dot) for dot, version in kept.items() if version.last_write_wins]
    newest = max(events + flagged, default=None)
    return tuple(
        version
        for dot, version in sorted(kept.items())
        if not version.last_write_wins or (version.timestamp_ms, dot) == newest
    )
