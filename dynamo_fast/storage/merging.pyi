from collections.abc import Callable, Sequence

import lmdb

def merge_scans(
    newer: Sequence[tuple[bytes, bytes | None]],
    transaction: lmdb.Transaction[memoryview],
    start: bytes,
    end: bytes,
    limit: int,
    rot: Callable[[bytes], object],
) -> list[tuple[bytes, bytes]]: ...
