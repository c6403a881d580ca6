"""Where a placement comes from, and which of several is in force (paper, section 4.8.1; how nodes agree is ours).

Every node may announce the next placement, so two may be announced for one parent. Nobody votes: of the children of one
parent the one with the smaller digest counts, on every node that knows both, and the changes that only the others took in
go into the next. A child that is pinned counts before all others: everybody has told of its second step (change.py), so reads may
have gone to it. So does one with children of its own, which are announced only when it has settled. Both can be said of one child
of a parent at most.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from typing import Annotated

import msgspec

from dynamo_fast.core.digest import md5

NO_PARENT = bytes(16)
CHANGES_MAX = 4096  # change records that one placement takes in

Digest = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class LineageError(ValueError):
    """Bytes that are no record of a placement, or records that do not belong to one cluster."""


class PlacementRecord(msgspec.Struct, frozen=True, array_like=True):
    """A placement without its table, as it is kept and gossiped: what it follows from and what came out."""

    number: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]  # from 1; a child has its parent's and one more
    parent_digest: Digest  # NO_PARENT for the first
    changes: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=CHANGES_MAX)]  # ids of the change records taken in, sorted
    algorithm: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]  # the version of the rules that made the table
    table_digest: Digest

    @property
    def digest(self) -> bytes:
        """16 bytes that tell it from every other placement. The first one's is its table's, which the birth of the cluster names;
        two later ones may have one table and come from different changes."""
        if self.number == 1:
            return self.table_digest
        start = struct.pack("<II", self.number, len(self.changes))
        return md5(start + self.parent_digest + b"".join(self.changes) + self.table_digest)


class Lineage(msgspec.Struct, frozen=True):
    """What the records of one cluster's placements say together."""

    chain: tuple[PlacementRecord, ...]  # the first placement, its child, and so on; the last one is in force
    beaten: tuple[PlacementRecord, ...]  # branches off the chain: announced, and written to until they are retired
    orphans: tuple[PlacementRecord, ...]  # their first ancestor is not known yet, so nothing can be said about them
    changes_left: tuple[bytes, ...]  # ids of changes that only beaten placements took in: for the next one; sorted


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[PlacementRecord] = msgspec.msgpack.Decoder(PlacementRecord)


def encode_placement_record(record: PlacementRecord) -> bytes:
    return _encoder.encode(record)


def decode_placement_record(data: bytes) -> PlacementRecord:
    """Reads what `encode_placement_record` wrote; LineageError for anything else."""
    try:
        record = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise LineageError(f"not a record of a placement: {error}") from error
    if list(record.changes) != sorted(set(record.changes)):
        raise LineageError(f"placement {record.number} does not name its changes sorted, every one once")
    if (record.number == 1) != (record.parent_digest == NO_PARENT):
        raise LineageError(f"placement {record.number} says it {'has no' if record.parent_digest == NO_PARENT else 'has a'} parent")
    if record.number == 1 and record.changes:
        raise LineageError("placement 1 says it took in changes, and there is none before it")
    return record


def settle(records: Iterable[PlacementRecord], pinned: Container[bytes] = frozenset()) -> Lineage:
    """The placements that count, from whatever is known of them, in any order and repeated at will. `pinned`: digests.

    Knowing more can replace the end of a chain, never a placement that has no sibling: nodes that know the same agree.
    Raises LineageError when the records tell of two first placements, which are two clusters.
    """
    known = {record.digest: record for record in records}
    children: dict[bytes, list[PlacementRecord]] = {}
    for record in known.values():
        parent = known.get(record.parent_digest)
        if record.number == 1 or (parent is not None and parent.number == record.number - 1):
            children.setdefault(record.parent_digest, []).append(record)
    firsts = children.get(NO_PARENT, [])
    if len(firsts) > 1:
        raise LineageError(f"{len(firsts)} different first placements are of as many clusters")

    def counting_one(parent_digest: bytes) -> PlacementRecord | None:
        def rank(record: PlacementRecord) -> tuple[bool, bool, bytes]:
            return record.digest not in children, record.digest not in pinned, record.digest

        return min(children.get(parent_digest, ()), key=rank, default=None)

    chain: list[PlacementRecord] = []
    following = counting_one(NO_PARENT)
    while following is not None:
        chain.append(following)
        following = counting_one(following.digest)
    descendants: list[PlacementRecord] = list(firsts)
    for record in descendants:  # grows as it goes
        descendants += children.get(record.digest, ())
    rooted = {record.digest for record in descendants}
    counting = {record.digest for record in chain}
    taken_in = {change for record in chain for change in record.changes}
    beaten = in_order(record for record in descendants if record.digest not in counting)
    return Lineage(
        chain=tuple(chain),
        beaten=beaten,
        orphans=in_order(record for record in known.values() if record.digest not in rooted),
        changes_left=tuple(sorted({change for record in beaten for change in record.changes} - taken_in)),
    )


def in_order(records: Iterable[PlacementRecord]) -> tuple[PlacementRecord, ...]:
    return tuple(sorted(records, key=lambda record: (record.number, record.digest)))
