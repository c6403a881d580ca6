"""Which range of the write buffer goes to LMDB next, and how far it is: the node's side of checkpoints, round and round.

A checkpoint freezes the range whose records have waited longest, waits until the log is on disk up to there (so that
LMDB never holds what a power cut takes from the log), asks the helper process, and drops the frozen records once reads
see them in LMDB. A checkpoint that fails is asked for again: the helper skips what it has committed before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamo_fast.storage.mover import COMMITTED, DONE, Mover
from dynamo_fast.storage.scrubbing import leaf_range
from dynamo_fast.storage.tables import RANGES

if TYPE_CHECKING:
    from dynamo_fast.storage.lmdb_engine import LmdbEngine

RETRY_NS = 1_000_000_000  # between attempts, when LMDB has no room or the helper dies


class Checkpoints:
    """One at a time; `step` is called with every tick and never waits."""

    def __init__(self, mover: Mover, frozen_at: int) -> None:
        self.mover = mover
        self.range_index: int | None = None  # being moved
        self.done = 0
        self.records_moved = 0
        self.bytes_moved = 0
        self.helper_cpu_ns = 0  # of helpers, the one now running included
        self.trouble: str | None = None  # why the last attempt failed
        self.repairs: set[tuple[int, int]] = set()  # (partition, leaf) of leaves in LMDB that are to be summed up anew
        self._frozen_at = frozen_at  # log position at the last freeze, at first the log's end
        self._repairs: frozenset[tuple[int, int]] = frozenset()  # of the range under way: found wrong before it was frozen
        self._asked = False
        self._not_before_ns = 0
        self._cpu_ns_before = 0  # of helpers that have ended

    @property
    def under_way(self) -> bool:
        return self.range_index is not None

    def step(self, engine: LmdbEngine, now_ns: int) -> None:
        """Goes on as far as it can without waiting."""
        self._listen(engine, now_ns)
        if self.range_index is None and self.due(engine):
            self._begin(engine)
        if self.range_index is not None and not self._asked and engine.durable >= self._frozen_at and now_ns >= self._not_before_ns:
            try:
                self.mover.request(self.range_index, self._frozen_at, engine.stretches_of(self.range_index), self._repairs)
                self._asked = True
            except OSError as error:
                self._fail(f"the helper process cannot be asked: {error}", now_ns)

    def due(self, engine: LmdbEngine) -> bool:
        """Whether log or buffer are so full that a range should go to LMDB, or the log has grown by a range's share since the last.

        A segment goes only when every range has passed it. Without the share all ranges would be due at once, and sixteen
        checkpoints would come in a row whenever the log is half full; with it they come one by one, as far apart as they can.
        """
        if self.repairs:
            return True
        taken = engine.buffer.region.bytes_taken
        if taken == 0:
            return False  # every record is in LMDB
        bounds, fill = engine.settings, engine.settings.checkpoint_fill
        # Whole segments go: what waits is up to a segment more than what the ranges need.
        spread = bounds.log_bytes_max * fill - bounds.log_segment_bytes
        if spread > 0 and fill <= 1 and engine.position - self._frozen_at >= spread / RANGES:
            return True
        return taken > bounds.write_buffer_bytes_max * fill or engine.log.bytes > bounds.log_bytes_max * fill

    def _begin(self, engine: LmdbEngine) -> None:
        """With a range that has a leaf to be repaired, or else the one whose records have waited longest."""
        damaged = next(iter(self.repairs), None)
        self.range_index = engine.buffer.oldest_range() if damaged is None else self._range_of(engine, damaged)
        if self.range_index is not None:
            self._repairs = frozenset(leaf for leaf in self.repairs if self._range_of(engine, leaf) == self.range_index)
            self._frozen_at = engine.freeze(self.range_index)
            engine.sync()

    def _range_of(self, engine: LmdbEngine, leaf: tuple[int, int]) -> int:
        """The one that a leaf lies in, with however few partitions."""
        return leaf_range(*leaf, engine.forest.partitions, engine.forest.leaf_count)[0][0] * RANGES >> 8

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
                engine.drop_frozen(reply.range_index)
                self.repairs -= self._repairs
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
