from collections.abc import Iterator
from mmap import mmap
from struct import Struct
from typing import Self, final

from dynamo_fast.storage.tables import Tables

MOVED_ROW: Struct
NO_RECORDS: bytes

@final
class Checkpointer:
    def __new__(cls, tables: Tables, region: mmap | memoryview, partitions: int, transaction_bytes: int) -> Self: ...
    def move(self, range_index: int, position: int, stretches: bytes) -> Iterator[tuple[int, int]]: ...
    def sum_up(self, partition: int, leaf: int) -> None: ...
    def moved_row(self, range_index: int) -> list[int]: ...
