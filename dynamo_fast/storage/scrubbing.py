"""A leaf of a Merkle tree recomputed from the records there are: what finds a key that vanished, a flipped bit, two swapped records.

A key that vanishes leaves its hash behind in its leaf, and replicas' roots agree for ever. Two leaves may be wrong, and each has
an invariant of its own, which is restored by itself:

* The forest's leaf is the sum of the hashes of what `find` shows. The records of a leaf are read, the sum taken and the forest
  corrected in one step of the loop, with no store in between; every store before took the hash that `find` showed out and put its own
  in, and so does every store after. So the leaf is right from here on, whatever it was.

* LMDB's leaf is the sum over the records in LMDB, and each slot of the write buffer knows the hash that its move will take out of it.
  Only the helper process writes there. A wrong leaf waits in `repairs` for the next time that its range is frozen. The helper first
  moves all that was frozen and then, in a transaction, sums up the records anew: what a frozen slot took out of the leaf, rightly or
  not, counts no more. Slots that are younger than the freeze took their hashes from versions that are in LMDB since the move, so
  they fit the new sum. A repair that was found after the freeze waits for the next one, since a slot in between may have its
  hash from a record that was lost after that slot was stored and before the sum is taken. Replay agrees: what is older than the freeze
  it skips, and what is younger is logged with the hashes that its slots have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import lmdb

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.merkle import Forest, entry_hash
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.schema import decode_record, encode_store_key

if TYPE_CHECKING:
    from dynamo_fast.storage.lmdb_engine import LmdbEngine

STORE_KEY_BITS = 192
LAST = b"\xff" * 24
ALL = 1 << 62  # a limit that nothing reaches
MODULUS = 1 << 64


class Sums(NamedTuple):
    """The records of a leaf, as found in LMDB alone, and with the buffer over it."""

    visible: int
    visible_records: int
    in_tables: int
    unreadable: list[bytes]  # store keys
    misplaced: list[tuple[bytes, int]]  # and the hashes that the records there show
    wrong_hash: int


def leaf_range(partition: int, leaf: int, partitions: int, leaves: int) -> tuple[bytes, bytes]:
    """The store keys of a leaf: from the first, up to and not including the second."""
    width = (1 << STORE_KEY_BITS) // (partitions * leaves)
    start = (partition * leaves + leaf) * width
    end = start + width
    return start.to_bytes(24, "big"), LAST if end >> STORE_KEY_BITS else end.to_bytes(24, "big")


def sum_up(newer: list[tuple[bytes, bytes | None]], stored: Iterator[tuple[bytes, bytes | None]], mac_key: bytes | None) -> Sums:
    """`newer` is the buffer's scan of the leaf, removed keys included, `stored` what LMDB has there, None for what cannot be read."""
    hashes = {store_key: decode_record(record).hash if record is not None else 0 for store_key, record in newer}
    records = sum(record is not None for _, record in newer)
    unreadable: list[bytes] = []
    misplaced: list[tuple[bytes, int]] = []
    wrong_hash = in_tables = 0
    for store_key, record in stored:
        try:
            parts = decode_record(record or b"")
        except ValueError:
            unreadable.append(store_key)
            continue
        in_tables += parts.hash
        if store_key in hashes:
            continue
        hashes[store_key] = parts.hash
        records += 1
        position = key_position(parts.key, parts.bucket)
        if not store_key.startswith(encode_store_key(mac_key, position, parts.key, parts.bucket) if mac_key else position):
            misplaced.append((store_key, parts.hash))
        elif entry_hash(position, parts.packed) != parts.hash:
            wrong_hash += 1
    return Sums(sum(hashes.values()) % MODULUS, records, in_tables % MODULUS, unreadable, misplaced, wrong_hash)


def leaf_of(leaves: bytes, leaf: int) -> int:
    return int.from_bytes(leaves[8 * leaf : 8 * leaf + 8], "little")


def correct(forest: Forest, partition: int, leaf: int, start: bytes, true_sum: int) -> bool:
    """Whether the forest's leaf was another; it is the true sum now."""
    was = leaf_of(forest.leaves(partition), leaf)
    if was != true_sum:
        forest.replace(start[:16], was, true_sum)
    return was != true_sum


def recompute(engine: LmdbEngine, partition: int, leaf: int, mac_key: bytes | None) -> LeafFindings:
    """Of the engine with a disk."""
    transaction = engine.snapshot.transaction
    start, end = leaf_range(partition, leaf, engine.forest.partitions, engine.forest.leaf_count)
    try:
        with transaction.cursor() as cursor:
            sums = sum_up(engine.buffer.scan(start, end, ALL, True), between(transaction, cursor, start, end), mac_key)
        row = engine.snapshot.leaves(partition)
    except lmdb.Error:
        # Nobody knows what is on a page that cannot be read; the leaf stays, and whoever syncs the partition stores anew.
        engine.rotten(start)
        return LeafFindings(unreadable=1)
    corrected = correct(engine.forest, partition, leaf, start, sums.visible)
    repair = sums.in_tables != (leaf_of(bytes(row), leaf) if row is not None else 0)
    for store_key in sums.unreadable:
        engine.rotten(store_key)
    if repair:
        engine.repair(partition, leaf)
    if corrected or repair or sums.misplaced or sums.wrong_hash:
        engine.suspect(partition)
    if sums.misplaced:
        with contextlib.suppress(StorageError):  # of a disk that takes no writes: the next round removes them
            for store_key, shown in sums.misplaced:
                engine.delete(store_key, shown)
            engine.flush()
    return LeafFindings(sums.visible_records, len(sums.unreadable), len(sums.misplaced), sums.wrong_hash, corrected, repair)


def between(
    transaction: lmdb.Transaction[memoryview], cursor: lmdb.Cursor[memoryview], start: bytes, end: bytes
) -> Iterator[tuple[bytes, bytes | None]]:
    """What a walk meets, None where a search does not find the same: a damaged page leads reads astray."""
    last = start
    found = cursor.set_range(start)
    while found and last <= (store_key := bytes(cursor.key())) < end:
        last = store_key
        record = bytes(cursor.value())
        searched = transaction.get(store_key)
        yield store_key, record if searched is not None and searched == record else None
        found = cursor.next()
