from typing import Self, final

from dynamo_fast.storage.engine import Engine

LEAVES: int

@final
class MemoryEngine(Engine):
    def __new__(cls, *, partitions: int = 1024, bytes_max: int = 1073741824) -> Self: ...
