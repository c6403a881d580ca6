"""Any order of puts, deletions, passes, ticks, checkpoints and ends of all kinds: an engine is a dictionary that keeps what was flushed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from tests.storage.disks import Unhurried
from tests.storage.engines import settings, settle, tick
from tests.storage.records import HIGHEST, LOWEST, forest_of, hash_of, record, roots, store_key

PARTITIONS = 16
KEYS = 40


class EngineMachine(RuleBasedStateMachine):
    """Rules that every engine knows. `written` is what was flushed, `content` what was put."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[bytes, bytes] = {}
        self.content: dict[bytes, bytes] = {}
        self.version = 0
        self.start()

    def start(self) -> None:
        self.engine = MemoryEngine(partitions=PARTITIONS)

    @rule(numbers=st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=8), value_bytes=st.sampled_from([0, 10, 90, 1500, 40_000]))
    def put(self, numbers: list[int], value_bytes: int) -> None:
        for number in numbers:
            self.version += 1
            key, stored = store_key(number), record(number, self.version, value_bytes)
            self.engine.put(key, stored, hash_of(self.content.get(key)))
            self.content[key] = stored

    @rule(numbers=st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=8))
    def delete(self, numbers: list[int]) -> None:
        for number in numbers:
            key = store_key(number)
            assert self.engine.delete(key) is (self.content.pop(key, None) is not None)

    @rule(number=st.integers(0, KEYS - 1), stale=st.booleans())
    def delete_expected(self, number: int, stale: bool) -> None:
        key = store_key(number)
        stored = self.content.get(key)
        wanted = stored is not None and not stale
        assert self.engine.delete(key, hash_of(stored) ^ stale) is wanted
        if wanted:
            del self.content[key]

    @rule()
    def flush(self) -> None:
        self.engine.flush()
        self.written = dict(self.content)

    @rule(low=st.integers(0, 255), high=st.integers(0, 255), limit=st.integers(0, 50))
    def scan(self, low: int, high: int, limit: int) -> None:
        start, end = bytes([low]) + bytes(23), bytes([high]) + bytes(23)
        wanted = sorted((key, stored) for key, stored in self.content.items() if start <= key < end)
        assert self.engine.scan(start, end, limit) == wanted[:limit]

    @invariant()
    def it_is_a_dictionary(self) -> None:
        assert all(self.engine.get(store_key(number)) == self.content.get(store_key(number)) for number in range(KEYS))
        assert roots(self.engine.forest) == roots(forest_of(self.content, PARTITIONS))

    def teardown(self) -> None:
        self.engine.close()


class LmdbMachine(EngineMachine):
    """And those that only an engine with a disk knows."""

    engine: LmdbEngine
    fill = 0.0

    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="storage-machine-"))
        self.open()

    def open(self) -> None:
        bounds = settings(checkpoint_fill=self.fill, log_segment_bytes=20_000, sync_seconds=0.0)
        self.engine = LmdbEngine(self.directory, Unhurried(), bounds, partitions=PARTITIONS)

    @initialize(fill=st.sampled_from([0.0, 9.0]))
    def choose(self, fill: float) -> None:
        self.fill = fill
        self.reopen_after_close()

    @rule()
    def tick(self) -> None:
        self.flush()
        tick(self.engine)

    @rule()
    @precondition(lambda self: self.fill == 0.0)
    def move_all(self) -> None:
        self.flush()
        settle(self.engine)

    @rule()
    def reopen_after_close(self) -> None:
        self.engine.close()
        self.written = dict(self.content)
        self.open()
        assert not self.engine.recovery.unclean

    @rule()
    def reopen_after_a_crash(self) -> None:
        self.engine.checkpoints.close()
        self.engine.abandon()
        self.content = dict(self.written)
        self.open()
        assert self.engine.recovery.unclean
        assert self.engine.recovery.rot_records == 0

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


def limited(machine: type[EngineMachine], examples: int) -> Any:
    machine.TestCase.settings = hypothesis_settings(max_examples=examples, stateful_step_count=30, deadline=None)
    return machine.TestCase


TestMemoryEngine = limited(EngineMachine, 40)
TestLmdbEngine = limited(LmdbMachine, 15)


def test_the_rules_reach_everything() -> None:
    """A machine whose bounds never let it scan anything would prove nothing."""
    machine = EngineMachine()
    machine.put([1, 2, 3], 10)
    machine.flush()
    assert machine.engine.scan(LOWEST, HIGHEST, 10) == sorted(machine.content.items())
    machine.teardown()
