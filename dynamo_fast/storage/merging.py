"""Scans over write buffer and LMDB together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lmdb

from dynamo_fast.storage.schema import is_record


def merge_scans(
    newer: Sequence[tuple[bytes, bytes]],
    transaction: lmdb.Transaction[memoryview],
    start: bytes,
    end: bytes,
    limit: int,
    rot: Callable[[bytes], object],
) -> list[tuple[bytes, bytes]]:
    """The first `limit` pairs with start <= store key < end, where the buffer's, given as `newer`, hide LMDB's.

    A record of LMDB that cannot be read is left out, and its store key told to `rot`.
    """
    merged = dict(newer)
    taken = 0
    with transaction.cursor() as cursor:
        found = cursor.set_range(start)
        while found and taken < limit and (store_key := bytes(cursor.key())) < end:
            if store_key not in merged:
                record = bytes(cursor.value())
                if is_record(record):
                    merged[store_key] = record
                else:
                    rot(store_key)
            taken += 1
            found = cursor.next()
    return sorted(merged.items())[:limit]
