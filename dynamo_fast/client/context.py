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
SEEN_MAX = 8  # contexts remembered per key, none covering another; normally one

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


def covers(newer: bytes, older: bytes) -> bool:
    """Whether everything seen in `older` was seen in `newer` too."""
    if newer == older or not older:
        return True
    now, before = seen_in(newer), seen_in(older)
    return (before.dot is None or now.has(*before.dot)) and all(
        now.clock.get(actor, 0) >= counter or (now.clock.get(actor, 0) == counter - 1 and now.has(actor, counter))
        for actor, counter in before.clock.items()
    )


def wrote_alone(before: bytes, after: bytes) -> bool:
    """Whether a put with context `before`, answered with `after`, met nobody: exactly its own event came to be in between."""
    was, now = seen_in(before), seen_in(after)
    if now.dot is not None:
        return False  # siblings stand beside what was written
    events = sum(max(0, counter - was.clock.get(actor, 0)) for actor, counter in now.clock.items())
    if was.dot is not None and was.clock.get(was.dot[0], 0) < was.dot[1] <= now.clock.get(was.dot[0], 0):
        events -= 1
    return events == 1


class Session:
    """What one user of the store has seen, key by key: makes reads monotonic and shows the user its own writes.

    Give the same session to gets and puts. A get answers only with a result that covers every context seen for the key, or fails with
    DeadlineExceeded. Sessions may be shared between tasks of one client.
    """

    def __init__(self, keys_max: int = SESSION_KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._seen: OrderedDict[tuple[bytes, bytes], list[bytes]] = OrderedDict()

    def saw(self, bucket: bytes, key: bytes, context: bytes) -> None:
        """Remembers a context that an answer brought, in place of the ones it covers."""
        if not context:
            return
        seen = self._seen.get((bucket, key))
        if seen is None:
            self._seen[bucket, key] = [context]
            if len(self._seen) > self._keys_max:
                self._seen.popitem(last=False)
            return
        self._seen.move_to_end((bucket, key))
        if any(covers(old, context) for old in seen):
            return
        seen[:] = [old for old in seen if not covers(context, old)][-(SEEN_MAX - 1) :]
        seen.append(context)

    def context(self, bucket: bytes, key: bytes) -> bytes:
        """The latest context seen for the key, which a node is asked to cover; empty when the key was not seen."""
        seen = self._seen.get((bucket, key))
        return seen[-1] if seen else b""

    def satisfied_by(self, bucket: bytes, key: bytes, context: bytes) -> bool:
        """Whether an answer with this context covers all the session saw of the key."""
        return all(covers(context, old) for old in self._seen.get((bucket, key), ()))
