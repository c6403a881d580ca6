"""Chance that is the same on every machine: what must look random in a placement, and must not differ from node to node."""

from collections.abc import Sequence


class Dice:
    """Pseudo-random numbers that are the same everywhere: Knuth's linear congruential generator of 64 bits."""

    def __init__(self, seed: int) -> None:
        self.state = seed & 0xFFFFFFFFFFFFFFFF

    def below(self, bound: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self.state >> 32) * bound >> 32

    def shuffled(self, items: Sequence[int]) -> list[int]:
        """A new list of the items in a random order (Fisher and Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
