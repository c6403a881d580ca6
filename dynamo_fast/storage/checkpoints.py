"""Which range of the write buffer goes to LMDB next, and how far it is: the node's side of checkpoints, round and round.

A checkpoint freezes the range whose records have waited longest, waits until the log is on disk up to there (so that
LMDB never holds what a power cut takes from the log), asks the helper process, and drops the frozen records once reads
see them in LMDB. A checkpoint that fails is asked for again: the helper skips what it has committed before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamo_fast.storage.mover import COMMITTED, DONE, Mover

if TYPE_CHECKING:
    from dynamo_fast.storage.lmdb_engine import LmdbEngine

RETRY_NS = 1_000_000_000  # between attempts, when LMDB has no room or the helper dies


class Checkpoints:
    """One at a time; `step` is called with every tick and never waits."""

    def __init__(self, mover: Mover) -> None:
        self.mover = mover
        self.range_index: int | None = None  # being moved
        self.done = 0
        self.records_moved = 0
        self.bytes_moved = 0
        self.helper_cpu_ns = 0  # of helpers, the one now running included
        self.trouble: str | None = None  # why the last attempt failed
        self._position = 0
        self._repairs: frozenset[tuple[int, int]] = frozenset()  # leaves that were found wrong before the range was frozen
        self._asked = False
        self._not_before_ns = 0
        self._cpu_ns_before = 0  # of helpers that have ended

    @property
    def under_way(self) -> bool:
        return self.range_index is not None

    def step(self, engine: LmdbEngine, now_ns: int) -> None:
        """Goes on as far as it can without waiting."""
        self._listen(engine, now_ns)
        if self.range_index is None and engine.wants_checkpoint:
            self.range_index, self._position = engine.freeze_oldest()
            if self.range_index is not None:
                self._repairs = engine.repairs_in(self.range_index)
                engine.sync()
        if self.range_index is not None and not self._asked and engine.durable >= self._position and now_ns >= self._not_before_ns:
            try:
                self.mover.request(self.range_index, self._position, engine.stretches_of(self.range_index), self._repairs)
                self._asked = True
            except OSError as error:
                self._fail(f"the helper process cannot be asked: {error}", now_ns)

    def _listen(self, engine: LmdbEngine, now_ns: int) -> None:
        try:
            replies = self.mover.poll()
        except ConnectionError as error:
            self._cpu_ns_before = self.helper_cpu_ns
            self._fail(str(error), now_ns)
            return
        for reply in replies:
            self.helper_cpu_ns = self._cpu_ns_before + reply.cpu_ns
            if reply.kind == COMMITTED:
                self.records_moved += reply.records
                self.bytes_moved += reply.record_bytes
                engine.snapshot.renew()
            elif reply.kind == DONE:
                engine.drop_frozen(reply.range_index, self._repairs)
                self.range_index, self._asked, self.trouble = None, False, None
                self.done += 1
            else:
                self._fail(f"records cannot be moved to LMDB ({reply.text})", now_ns)

    def _fail(self, trouble: str, now_ns: int) -> None:
        self.trouble = trouble
        self._asked = False
        self._not_before_ns = now_ns + RETRY_NS

    def close(self) -> None:
        """Kills the helper."""
        self.mover.stop()
