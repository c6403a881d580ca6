"""A forest of Merkle trees as a plain dictionary of entries, computed from nothing at every question."""

from __future__ import annotations

M64 = (1 << 64) - 1


def spread(number: int) -> int:
    number = (number ^ number >> 33) * 0xFF51AFD7ED558CCD & M64
    number = (number ^ number >> 33) * 0xC4CEB9FE1A85EC53 & M64
    return number ^ number >> 33


def mix(left: int, right: int) -> int:
    return spread(spread(left) * 3 + right & M64)


class Forest:
    """Entries by position; what a tree is follows from them."""

    def __init__(self, partitions: int, leaves: int) -> None:
        self.partitions = partitions
        self.leaf_count = leaves
        self.entries: dict[bytes, int] = {}

    def place(self, position: bytes) -> tuple[int, int]:
        return divmod(int.from_bytes(position, "big") * self.partitions * self.leaf_count >> 128, self.leaf_count)

    def levels(self, partition: int) -> list[list[int]]:
        """Every level's hashes, the root first."""
        leaves = [0] * self.leaf_count
        for position, entry in self.entries.items():
            home, leaf = self.place(position)
            if home == partition:
                leaves[leaf] = leaves[leaf] + entry & M64
        levels = [leaves]
        while len(levels[0]) > 1:
            below = levels[0]
            levels.insert(0, [mix(below[i], below[i + 1]) for i in range(0, len(below), 2)])
        return levels
