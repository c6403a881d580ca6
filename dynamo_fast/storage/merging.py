"""Scans over write buffer and LMDB together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lmdb

from dynamo_fast.storage.schema import is_record


def merge_scans(
    newer: Sequence[tuple[bytes, bytes | None]],
    transaction: lmdb.Transaction[memoryview],
    start: bytes,
    end: bytes,
    limit: int,
    rot: Callable[[bytes], object],
) -> list[tuple[bytes, bytes]]:
    """The first `limit` pairs with start <= store key < end, where the buffer's, given as `newer`, hide LMDB's.

    `newer` is the buffer's scan with the same bounds, removed keys included: it ends where it has `limit` records, so whatever
    it does not tell of lies beyond the answer. A record of LMDB that cannot be read is left out, and its store key told to
    `rot`; fewer than `limit` pairs mean the end.
    """
    merged = {store_key: record for store_key, record in newer if record is not None}
    removed = {store_key for store_key, record in newer if record is None}
    taken = 0
    last = start
    with transaction.cursor() as cursor:
        found = cursor.set_range(start)
        while found and taken < limit and (store_key := bytes(cursor.key())) < end:
            if store_key < last:
                rot(start)  # a page of another place
            elif store_key in merged:
                taken += 1
            elif store_key in removed:
                pass  # the checkpoint has not deleted it yet
            elif is_record(record := bytes(cursor.value())):
                merged[store_key] = record
                taken += 1
            else:
                rot(store_key)
            last = max(last, store_key)
            found = cursor.next()
    return sorted(merged.items())[:limit]
