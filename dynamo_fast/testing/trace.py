"""What happened, as one running hash: two runs with the same digest did the same things in the same order at the same times.

With `watched`, the lines of one key are kept as well, to be read.
"""

from __future__ import annotations

import struct

import xxhash

_MOMENT = struct.Struct("<dI").pack


class Trace:
    """`note` everything that happens; `digest` names the whole."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def note(self, now_s: float, number: int, data: bytes) -> None:
        """Something happened at a time to somebody with a number, and these bytes say what."""
        self._hash.update(_MOMENT(now_s, number) + data)

    @property
    def digest(self) -> str:
        return str(self._hash.hexdigest())
