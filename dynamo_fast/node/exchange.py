"""The decisions of an exchange between two replicas, without the talking: which keys differ, and which way each has to go.

Two homes of a partition walk down their Merkle trees to the leaves that differ, and list the keys of those. What one lists and the other
does not, or in another version, is a difference. Of a key that one side lacks the object has one way to go. Of a key that both have, the
outlines tell: whoever has seen everything that the other has sends, and only two versions that are concurrent travel both ways. So an
object moves only to a replica that lacks something of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import ObjectError, Siblings

STORE_KEY_BYTES, HASH_BYTES, POSITION_BITS = 24, 8, 128
LISTED_BYTES = STORE_KEY_BYTES + HASH_BYTES  # of one key in a listing: where it stands, and its version's hash


class BadAnswer(Exception):
    """What the other side said cannot be; its bytes are believed no further."""


def shared_partitions(placement: Placement, one: bytes, other: bytes) -> list[int]:
    """The partitions that both nodes are homes of, ascending."""
    if one not in placement.node_ids or other not in placement.node_ids:
        return []
    wanted = {placement.node_ids.index(one), placement.node_ids.index(other)}
    return [partition for partition, row in enumerate(placement.table) if wanted <= set(row[: placement.replicas])]


def leaf_ranges(leaves: Iterable[int], leaf_count: int) -> list[tuple[bytes, bytes]]:
    """The ranges of store keys, ascending, first and first not included, of some of all the leaves; neighbours are one range."""
    width = 1 << (POSITION_BITS + 64 - leaf_count.bit_length() + 1)
    ranges: list[list[int]] = []
    for leaf in sorted(leaves):
        start = leaf * width
        if ranges and ranges[-1][1] == start:
            ranges[-1][1] = start + width
        else:
            ranges.append([start, start + width])
    return [(store_key(start), store_key(end)) for start, end in ranges]


def store_key(number: int) -> bytes:
    """The store key with that place in the order of all; past the last one, the last."""
    return min(number, (1 << 8 * STORE_KEY_BYTES) - 1).to_bytes(STORE_KEY_BYTES, "big")


def portions(leaves: Iterable[int], leaves_per_tree: int, count_max: int) -> Iterator[list[int]]:
    """Leaves, ascending, cut into portions of so many at most, but between two trees and not within one."""
    portion: list[int] = []
    for _, of_one_tree in groupby(leaves, lambda leaf: leaf // leaves_per_tree):
        more = list(of_one_tree)
        if portion and len(portion) + len(more) > count_max:
            yield portion
            portion = []
        portion += more
    if portion:
        yield portion


class Difference(NamedTuple):
    """A key whose versions differ: the hashes, None on the side that lacks it."""

    store_key: bytes
    ours: int | None
    theirs: int | None


def pack_listing(entries: Iterable[tuple[bytes, int]]) -> bytes:
    return b"".join([key + hash.to_bytes(HASH_BYTES, "little") for key, hash in entries])


def unpack_listing(data: bytes) -> list[tuple[bytes, int]]:
    """The inverse; BadAnswer when the bytes are no listing in ascending order."""
    if len(data) % LISTED_BYTES:
        raise BadAnswer("a listing whose length cannot be")
    entries = [
        (data[at : at + STORE_KEY_BYTES], int.from_bytes(data[at + STORE_KEY_BYTES : at + LISTED_BYTES], "little"))
        for at in range(0, len(data), LISTED_BYTES)
    ]
    if any(entries[i][0] >= entries[i + 1][0] for i in range(len(entries) - 1)):
        raise BadAnswer("a listing that is not in order")
    return entries


class Side:
    """How far one side has listed what it holds in some ranges, which ascend, page by page."""

    def __init__(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]
        self.entries: deque[tuple[bytes, int]] = deque()  # listed and not yet compared
        self.after = b""  # everything up to here has been listed
        self.done = False

    def add(self, entries: list[tuple[bytes, int]], done: bool) -> None:
        """One page more. BadAnswer when it does not lead on, or lists what lies elsewhere."""
        if not done and not entries:
            raise BadAnswer("a page that does not lead on")
        if entries and entries[0][0] <= self.after:
            raise BadAnswer("a page with keys that belong to the one before")
        for key, _ in entries:
            at = bisect_right(self._starts, key) - 1
            if at < 0 or key >= self._ends[at]:
                raise BadAnswer("a page with keys of other leaves")
        self.entries.extend(entries)
        self.after, self.done = entries[-1][0] if entries else self.after, done


def differences(ours: Side, theirs: Side) -> list[Difference]:
    """Compares as far as both have listed, and forgets what it has compared."""
    bounds = [side.after for side in (ours, theirs) if not side.done]
    bound = min(bounds) if bounds else None

    def taken(side: Side) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        while side.entries and (bound is None or side.entries[0][0] <= bound):
            key, hash = side.entries.popleft()
            found[key] = hash
        return found

    here, there = taken(ours), taken(theirs)
    return [
        Difference(key, here.get(key), there.get(key)) for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)
    ]


class Ways(NamedTuple):
    """Which way an object has to go so that both sides hold the merge: to us, to them, both or neither."""

    pull: bool
    push: bool


def ways(ours: bytes | None, theirs: bytes) -> Ways:
    """From our packed object and the other side's outline (empty: it has none); BadAnswer when that is no object."""
    if ours is None or not theirs:
        return Ways(pull=ours is None and bool(theirs), push=ours is not None)
    try:
        there = Siblings(theirs)
    except ObjectError as error:
        raise BadAnswer(f"an outline that is no object: {error}") from error
    here = Siblings(ours).outline()
    try:
        merged = here.merge(there)
    except OverflowError:
        return Ways(pull=True, push=True)  # no object can hold both: whoever is given the other's refuses it, and that is counted
    return Ways(pull=merged != here, push=merged != there)


class Trust:
    """Which of our partitions may lack something that we once acknowledged, and with whom each has been compared since.

    Why N-W+1 other homes are enough: a put that was acknowledged with W lies with W homes. We may have been one of them and may have
    lost it, so W-1 of the N-1 others have it, and N-W of them may not. Whoever has taken over all that N-W+1 others hold has taken it
    from one that has it. (A put that asked for less than the default W, or whose copies lie with fallbacks still, is not in that
    count: it comes with later exchanges, or when its hint is delivered.) When there are fewer others, all of them are needed.
    """

    def __init__(self, others_needed: int) -> None:
        self._needed = others_needed
        self._compared: dict[int, set[bytes]] = {}

    def suspect(self, partitions: Iterable[int]) -> None:
        """These, and no others, are suspect now; what was compared before they became so does not count."""
        now = set(partitions)
        self._compared = {partition: self._compared.get(partition, set()) for partition in now}

    def __contains__(self, partition: int) -> bool:
        return partition in self._compared

    def compared(self, partition: int, peer: bytes, others: int) -> bool:
        """Our copy has, on disk, all that this peer's had; `others` homes there are besides us. True when it is suspect no more."""
        if partition not in self._compared:
            return False
        self._compared[partition].add(peer)
        if len(self._compared[partition]) < min(self._needed, others):
            return False
        del self._compared[partition]
        return True

    def lacks(self, peer: bytes) -> list[int]:
        """The suspect partitions that have not been compared with this peer."""
        return [partition for partition, peers in self._compared.items() if peer not in peers]
