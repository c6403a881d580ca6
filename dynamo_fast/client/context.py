"""Contexts as the client needs them: what a session has seen of each key, and whether an answer covers it (paper 4.4 and 6.1).

To a user a context is opaque bytes. The client reads its clock, as docs/protocol.md lays it out, for two questions only: does this
answer cover what my session saw, and did somebody else write since the context I put with. It cannot make or alter one: the MAC at the
end is the cluster's. Layout (little-endian): u8 format=1, u8 flags (1: a dot), u16 count, u32 zero, cluster id[16], position[16], then
`count` times node[16] epoch[8] counter u64 timestamp_ms u64, then the dot if there is one, likewise, then u64 MAC.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import NamedTuple

HEADER_BYTES, ENTRY_BYTES, MAC_BYTES = 40, 40, 8
SESSION_KEYS_MAX = 100_000  # keys a session remembers; the ones least recently used are forgotten
DOTS_MAX = 1024  # single events remembered per key, of puts beside siblings that no get has shown since; of more see Known

_FLAGS_AND_COUNT = struct.Struct("<xBH").unpack_from
_ENTRIES = struct.Struct("<24sQ8x").iter_unpack
_DOT = struct.Struct("<24sQ").unpack_from


class Seen(NamedTuple):
    """The events that a context stands for."""

    clock: dict[bytes, int]  # (node, epoch) as 24 bytes -> counter: that event and all before it
    dot: tuple[bytes, int] | None  # one event more, without those before it

    def has(self, actor: bytes, counter: int) -> bool:
        """Whether this one event was seen."""
        return self.clock.get(actor, 0) >= counter or self.dot == (actor, counter)


def seen_in(context: bytes) -> Seen:
    """What a context stands for; nothing for an empty one. ValueError when the bytes are no context."""
    if not context:
        return Seen({}, None)
    if len(context) < HEADER_BYTES + MAC_BYTES or context[0] != 1 or context[1] > 1:
        raise ValueError("these bytes are not a context of this protocol version")
    with_dot, count = _FLAGS_AND_COUNT(context)
    end = HEADER_BYTES + ENTRY_BYTES * count
    if len(context) != end + ENTRY_BYTES * with_dot + MAC_BYTES:
        raise ValueError(f"a context of {count} entries is not {len(context)} bytes long")
    return Seen(dict(_ENTRIES(context[HEADER_BYTES:end])), _DOT(context, end) if with_dot else None)


def wrote_alone(before: bytes, after: bytes) -> bool:
    """Whether a put with context `before`, answered with `after`, met nobody: exactly its own event came to be in between."""
    was, now = seen_in(before), seen_in(after)
    if now.dot is not None:
        return False  # siblings stand beside what was written
    events = sum(max(0, counter - was.clock.get(actor, 0)) for actor, counter in now.clock.items())
    if was.dot is not None and was.clock.get(was.dot[0], 0) < was.dot[1] <= now.clock.get(was.dot[0], 0):
        events -= 1
    return events == 1


class Known:
    """All that was seen of one key: events, of each actor all up to one, and single ones besides, the oldest first. `latest`: the last
    context that brought anything new.

    Of too many single events the oldest join the clock, and nothing is forgotten: what answers a get has a clock and no dot, and so covers
    an event exactly if it covers all of that actor up to it.
    """

    __slots__ = ("clock", "dots", "latest")

    def __init__(self) -> None:
        self.latest = b""
        self.clock: dict[bytes, int] = {}
        self.dots: dict[tuple[bytes, int], None] = {}

    def add(self, context: bytes) -> None:
        seen = seen_in(context)
        if not self.latest or not self.known_in(seen):
            self.latest = context
        for actor, counter in seen.clock.items():
            self.clock[actor] = max(counter, self.clock.get(actor, 0))
        if seen.dot is not None:
            self.dots[seen.dot] = None
        self.dots = {dot: None for dot in self.dots if self.clock.get(dot[0], 0) < dot[1]}
        while len(self.dots) > DOTS_MAX:
            actor, counter = next(iter(self.dots))
            del self.dots[actor, counter]
            self.clock[actor] = max(counter, self.clock.get(actor, 0))

    def known_in(self, seen: Seen) -> bool:
        """Whether those events were known already."""
        dot_known = seen.dot is None or seen.dot in self.dots or self.clock.get(seen.dot[0], 0) >= seen.dot[1]
        return dot_known and all(self.clock.get(actor, 0) >= counter for actor, counter in seen.clock.items())

    def covered_by(self, context: bytes) -> bool:
        """Whether everything that is known here was seen in that context too."""
        now = seen_in(context)
        return all(now.has(*dot) for dot in self.dots) and all(
            now.clock.get(actor, 0) >= counter or (now.clock.get(actor, 0) == counter - 1 and now.has(actor, counter))
            for actor, counter in self.clock.items()
        )


class Session:
    """What one user of the store has seen, key by key: makes reads monotonic and shows the user its own writes.

    Give the same session to gets and puts. A get answers only with a result that covers every context seen for the key, or fails with
    DeadlineExceeded. Sessions may be shared between tasks of one client.
    """

    def __init__(self, keys_max: int = SESSION_KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._known: OrderedDict[tuple[bytes, bytes], Known] = OrderedDict()

    def saw(self, bucket: bytes, key: bytes, context: bytes) -> None:
        """Remembers a context that an answer brought."""
        if not context:
            return
        known = self._known.get((bucket, key))
        if known is None:
            known = self._known[bucket, key] = Known()
            if len(self._known) > self._keys_max:
                self._known.popitem(last=False)
        self._known.move_to_end((bucket, key))
        known.add(context)

    def context(self, bucket: bytes, key: bytes) -> bytes:
        """The latest context seen for the key, which a node is asked to cover; empty when the key was not seen."""
        known = self._known.get((bucket, key))
        return b"" if known is None else known.latest

    def satisfied_by(self, bucket: bytes, key: bytes, context: bytes) -> bool:
        """Whether an answer with this context covers all the session saw of the key."""
        known = self._known.get((bucket, key))
        return known is None or known.covered_by(context)
