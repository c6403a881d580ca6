"""What a write had seen, what that had seen, and so on, as bits: one for each write of a key, in their order.

So a read is judged in a few operations on integers, however many writes there were before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from dynamo_fast.testing.history import Fate, History


class Causes:
    """Of all writes of a history. `bit`: by a write's number, its own. `forgotten`: by key, deletes that may have been forgotten, and what
    they had seen."""

    def __init__(self, history: History) -> None:
        self.bit: list[int] = []
        self.forgotten: dict[bytes, int] = {}
        self._reached: list[int] = []  # by number, its own bit and those of all that it had seen
        self._numbers: dict[bytes, list[int]] = {}
        for one in history.writes:
            numbers = self._numbers.setdefault(one.key, [])
            self.bit.append(1 << len(numbers))
            numbers.append(one.number)
            self._reached.append(self.bit[-1] | self.of(one.seen))  # whose numbers are smaller: they were shown before it began
            if history.forgets and one.tombstone and one.fate is not Fate.NOT_APPLIED:
                self.forgotten[one.key] = self.forgotten.get(one.key, 0) | self._reached[-1]

    def of(self, numbers: Iterable[int]) -> int:
        """These writes, all of one key, and whatever they had seen."""
        bits = 0
        for number in numbers:
            bits |= self._reached[number]
        return bits

    def numbers(self, key: bytes, bits: int) -> list[int]:
        """Which writes of a key these are, in order."""
        found = []
        while bits:
            lowest = bits & -bits
            found.append(self._numbers[key][lowest.bit_length() - 1])
            bits ^= lowest
        return found
