"""Contexts as the client needs them: what a session has seen of each key, and whether an answer covers it (paper 4.4 and 6.1).

To a user a context is opaque bytes. The client reads its clock, as docs/protocol.md lays it out, for two questions only: does this
answer cover what my session saw, and did somebody else write since the context I put with. It cannot make or alter one: the MAC at the
end is the cluster's. Layout (little-endian): u8 format=1, u8 zero, u16 count, u32 zero, cluster id[16], position[16], then `count` times
node[16] epoch[8] counter u64 timestamp_ms u64, then u64 MAC.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

HEADER_BYTES, ENTRY_BYTES, MAC_BYTES = 40, 40, 8
SESSION_KEYS_MAX = 100_000  # keys a session remembers; the ones least recently used are forgotten
SEEN_MAX = 8  # contexts remembered per key, none covering another; normally one

_COUNT = struct.Struct("<xxH").unpack_from
_ENTRIES = struct.Struct("<24sQ8x").iter_unpack

Clock = dict[bytes, int]  # (node, epoch) as 24 bytes -> counter


def clock_of(context: bytes) -> Clock:
    """The clock inside a context; an empty context has an empty one. ValueError when the bytes are no context."""
    if not context:
        return {}
    if len(context) < HEADER_BYTES + MAC_BYTES or context[0] != 1:
        raise ValueError("these bytes are not a context of this protocol version")
    (count,) = _COUNT(context)
    if len(context) != HEADER_BYTES + ENTRY_BYTES * count + MAC_BYTES:
        raise ValueError(f"a context of {count} entries is not {len(context)} bytes long")
    return dict(_ENTRIES(context[HEADER_BYTES:-MAC_BYTES]))


def covers(newer: bytes, older: bytes) -> bool:
    """Whether everything seen in `older` was seen in `newer` too."""
    if newer == older or not older:
        return True
    seen = clock_of(newer)
    return all(seen.get(actor, 0) >= counter for actor, counter in clock_of(older).items())


def events_between(older: bytes, newer: bytes) -> int:
    """How many events `newer` has that `older` has not: 1 after a put that met nobody, more when others wrote in between.

    An actor that `older` does not know counts with all its events.
    """
    known = clock_of(older)
    return sum(max(0, counter - known.get(actor, 0)) for actor, counter in clock_of(newer).items())


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
