"""Every engine, as a function that opens one in a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.memory_engine import MemoryEngine


def open_memory(directory: Path, partitions: int) -> Engine:
    return MemoryEngine(partitions=partitions)


ENGINES: dict[str, Callable[[Path, int], Engine]] = {"memory": open_memory}
