"""What the fake cluster stores: siblings with dots as the coordinator of the paper makes them, small and sequential."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from dynamo_fast.client.context import Seen

CLUSTER_ID = b"c" * 16


@dataclass
class Version:
    dot: tuple[bytes, int]
    value: bytes
    tombstone: bool
    put_id: bytes


@dataclass
class Object:
    clock: dict[bytes, int] = field(default_factory=dict)  # 24 bytes of (node, epoch) -> counter
    siblings: list[Version] = field(default_factory=list)

    def put(self, actor: bytes, seen: Seen, put_id: bytes, value: bytes, tombstone: bool, overwrite: bool) -> Seen:
        """As the coordinator of the paper does it, and a repeated put id makes no new version.

        Returns the context's clock and dot: of the whole object if the version stands alone, else what was seen before and its own dot.
        """
        if not any(version.put_id == put_id for version in self.siblings):
            if overwrite:
                self.siblings.clear()
            self.siblings = [version for version in self.siblings if not seen.has(*version.dot)]
            counter = 1 + max(self.clock.get(actor, 0), seen.clock.get(actor, 0))
            for node, known in seen.clock.items():
                self.clock[node] = max(known, self.clock.get(node, 0))
            self.clock[actor] = counter
            self.siblings.append(Version((actor, counter), value, tombstone, put_id))
        own = next((version.dot for version in self.siblings if version.put_id == put_id), None)
        return Seen(self.clock, None) if own is not None and len(self.siblings) == 1 else Seen(seen.clock, own or seen.dot)


def context_of(position: bytes, seen: Seen) -> bytes:
    entries = b"".join(struct.pack("<24sQQ", actor, counter, 0) for actor, counter in sorted(seen.clock.items()))
    dot = b"" if seen.dot is None else struct.pack("<24sQ8x", *seen.dot)
    return struct.pack("<BBHI16s16s", 1, bool(dot), len(seen.clock), 0, CLUSTER_ID, position) + entries + dot + bytes(8)
