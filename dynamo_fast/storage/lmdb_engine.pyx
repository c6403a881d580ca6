# cython: wraparound=True
"""The engine with a disk: log first, then the write buffer, and ranges of it moved to LMDB by a helper process.

A store goes into the log's batch and the buffer; the end of the pass writes the batch. A find looks into the buffer,
then into LMDB. Nothing here waits but the opening and the closing: what may wait happens in `maintenance`, which calls
`tick` every few milliseconds, in threads, and in the helper.

When the disk is full or fails, writes are refused and reads go on. What was in the batch stays there and is written
first when the disk takes writes again, so that the log never lacks a record that readers may have seen.
"""

cimport cython
from libc.stdint cimport int64_t

from dynamo_fast.core.bytes cimport load_u64, store_u64
from dynamo_fast.core.histogram cimport Histogram
from dynamo_fast.core.merkle cimport Forest
from dynamo_fast.storage.arena cimport Slot, slot_removed
from dynamo_fast.storage.engine cimport FIND_NOTHING, FIND_RECORD, FIND_ROT, ROOM_NONE, ROOM_PLENTY, ROOM_SOFT, Engine, ReplayVisitor
from dynamo_fast.storage.recovery cimport Replay
from dynamo_fast.storage.schema cimport RecordView, record_view
from dynamo_fast.storage.snapshot cimport Snapshot
from dynamo_fast.storage.suspects cimport Suspects
from dynamo_fast.storage.write_buffer cimport WriteBuffer, record_of

import os
from functools import partial
from pathlib import Path

import trio

from dynamo_fast.disk import Disk
from dynamo_fast.storage.checkpoints import Checkpoints
from dynamo_fast.storage.directory import StorageDirectory
from dynamo_fast.storage.engine import ReadOnlyError, StorageError
from dynamo_fast.storage.log_start import Beginning
from dynamo_fast.storage.log import Log as LogClass, segment_number
from dynamo_fast.storage.maintenance import maintain
from dynamo_fast.storage.merging import merge_scans
from dynamo_fast.storage.mover import Mover
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.scrubbing import recompute
from dynamo_fast.storage.settings import StorageSettings
from dynamo_fast.storage.statistics import engine_statistics
from dynamo_fast.storage.write_buffer import BufferFull

LEAVES = 256  # of a partition's Merkle tree
RETRY_NS = 500_000_000  # between attempts at what the disk has refused
TRIM_CHUNKS = 4  # whose pages go back to the system with one tick, when nothing is being moved


@cython.final
cdef class LmdbEngine(Engine):
    """`LmdbEngine(directory, disk, settings, partitions=1024, visitor=None)`: opens or makes the store, and recovers it.

    Waits for the disk, seconds after a crash. StorageError when the directory cannot be used, OSError and lmdb.Error
    when the disk gives it back damaged beyond reading. `recovery` tells what was found.
    """

    def __cinit__(self, directory: Path, disk: Disk, settings: StorageSettings, *, partitions: int = 1024,
                  ReplayVisitor visitor = None):
        self.settings, self.visitor = settings, visitor
        self.disk = disk
        self.clock_ns = disk.clock_ns
        self.forest = Forest(partitions, LEAVES)
        self.suspected = Suspects(partitions)
        self.pass_ns = Histogram()
        self.tick_ns = Histogram()
        self.buffer_hard = settings.write_buffer_bytes_max
        self.buffer_soft = int(settings.write_buffer_bytes_max * settings.soft_fill)
        self.log_hard = settings.log_bytes_max
        self.log_soft = int(settings.log_bytes_max * settings.soft_fill)
        self.directory = StorageDirectory(directory, disk, partitions)
        try:
            self.open(visitor)
        except BaseException:
            self.abandon()
            raise

    def open(self, ReplayVisitor visitor) -> None:
        """Reads LMDB's state and the log; see the class."""
        began = self.clock_ns()
        place = self.directory
        # A helper of the process before may still be in a transaction: what it commits must be seen here.
        self.disk.lock(place.lmdb / "helper.lock", wait=True).close()
        self.snapshot = Snapshot(place.lmdb, self.settings.lmdb_map_bytes)
        moved = self.snapshot.load(self.forest)
        names = [name for name in self.disk.list(place.log) if segment_number(name) is not None]
        # Address space for all of the log, even when the bound is lower than it was.
        logged = sum(self.disk.size(place.log / name) for name in names)
        self.buffer = WriteBuffer(max(self.settings.write_buffer_bytes_max, logged))
        cdef Replay replay = Replay(self.disk, self.buffer, self.forest, moved, visitor)
        number = max(map(segment_number, names), default=0)
        clean = not place.unclean
        beginning = place.log_start.read()
        self.transaction = self.snapshot.transaction.id()
        replay.run(place.log, beginning, self.transaction, clean or place.same_boot, self.settings.replay_visit_bytes)
        self.suspected.add(place.suspects)
        # A tail is torn by a power cut, and hardly ever by a kill; after any other end it is rot that happened to hit the last records.
        lost = place.tail_may_be_lost or replay.torn_bytes or replay.end < place.clean_end or self.snapshot.damaged
        self.suspected.add(range(self.forest.partitions) if lost else replay.rot_partitions)
        if replay.rot_records:
            replay.mend_base_hashes(self.hash_in_snapshot)
        # LMDB may be ahead of the log only on a disk that lost what it said was synced; positions must not come twice.
        end = max(replay.end, *moved)
        begins = replay.segments[0].start if replay.segments else end
        durable = end if clean else min(replay.durable, end)
        self.log = LogClass(self.disk, place.log_start, place.log, self.settings.log_segment_bytes, replay.segments, end, durable, number)
        self.next_sync_ns = self.clock_ns() + <int64_t>(self.settings.sync_seconds * 1e9)
        region = self.buffer.region
        self.checkpoints = Checkpoints(Mover(place.lmdb, self.settings.lmdb_map_bytes, region.fd,
                                             region.chunks_max * region.chunk_bytes, self.forest.partitions), end)
        self.save_suspects()
        missing = beginning is None or begins != beginning.position or self.transaction < beginning.transaction
        if missing and not self.suspected.unsaved:
            place.log_start.write(Beginning(begins, self.transaction))
        self.recovery = replay.report(place, self.suspects, self.clock_ns() - began)
        try:
            self.log.prepare()
        except OSError as error:
            self.refuse(error)

    def hash_in_snapshot(self, bytes store_key not None) -> int:
        """Of the record in LMDB, 0 when there is none that can be read."""
        cdef RecordView view
        return view.hash if self.find_in_snapshot(<const uint8_t *><const char *>store_key, &view) == FIND_RECORD else 0

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        cdef Slot *slot = self.buffer.find(store_key)
        if slot == NULL:
            return FIND_NOTHING if self.snapshot.empty else self.find_in_snapshot(store_key, view)
        if slot_removed(slot):
            return FIND_NOTHING
        record_view(record_of(slot), slot.n, view)
        return FIND_RECORD

    cdef int find_in_snapshot(self, const uint8_t *store_key, RecordView *view) except -1:
        cdef int found = self.snapshot.find(store_key, view)
        if found == FIND_ROT:
            self.rot(store_key)
        return found

    cdef int rot(self, const uint8_t *store_key) except -1:
        self.rot_found += 1
        self.suspected.set(self.forest.partition_of(store_key), True)
        return self.wake()

    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil:
        self.buffer.fetch_ahead(store_key, step)
        if step == 0:
            self.forest.fetch_ahead(store_key)

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1:
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        self.log.reserve(n)
        try:
            self.buffer.store(store_key, record, n, old_hash, self.log.position(), NULL)
        except BufferFull as error:
            raise StorageError(f"{error}; LMDB is too far behind") from error
        self.log.append(store_key, record, n, old_hash)
        self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, load_u64(record + 32))
        self.puts += 1
        return 0

    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1:
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        cdef Slot *slot = self.buffer.find(store_key)
        if slot_removed(slot) if slot != NULL else self.snapshot.empty:
            return 0
        self.log.reserve(0)
        try:
            self.buffer.remove(store_key, old_hash, self.log.position(), NULL)
        except BufferFull as error:
            raise StorageError(f"{error}; LMDB is too far behind") from error
        self.log.append(store_key, NULL, 0, old_hash)
        self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, 0)
        self.removals += 1
        return 0

    cdef int end_pass(self) except -1:
        # While writes are refused, `retry` alone writes what is left of the pass that failed; passes that only read go on. A pass that
        # had stored something before a failed fdatasync was noticed is none of those.
        if self.log.batch_n == self.left_n:
            return 0
        cdef int64_t began = self.clock_ns()
        try:
            self.log.write()
        except OSError as error:
            self.refuse(error)
            self.left_n = self.log.batch_n
            raise ReadOnlyError(self.refusal) from error
        self.left_n = 0
        self.wake()
        self.pass_ns.record(<int64_t>self.clock_ns() - began)
        return 0

    cdef int wake(self) except -1:
        """The maintenance has something to do."""
        if self.waker is not None:
            self.waker.set()
            self.waker = None
        return 0

    cdef int refuse(self, object error) except -1:
        """Writes are refused from now on, until `retry` succeeds."""
        reason = error.strerror or str(error)
        self.refusal = f"the log cannot be written ({reason}): writes are refused until the disk takes them again"
        return 0

    def retry(self) -> None:
        """Writes what could not be written; writes are taken again when that succeeds. From a tick."""
        if self.refusal is None or self.sync_failure:
            return
        try:
            if self.log.file is None and self.log.prepared is None:
                self.log.prepare()
            self.log.write()
        except OSError as error:
            self.refuse(error)
        else:
            self.refusal, self.left_n = None, 0

    cdef uint64_t log_position(self) noexcept:
        return self.log.position()

    cdef uint64_t durable_position(self) noexcept:
        return self.log.commit.durable()

    cdef int request_sync(self) except -1:
        self.log.commit.request()
        self.check_sync()
        return 0

    def check_sync(self) -> None:
        """After a failed fdatasync nobody knows what is on disk; the kernel forgets, so asking again would lie."""
        cdef int code = self.log.commit.failure()
        if code and not self.sync_failure:
            self.sync_failure = code
            self.refusal = f"an fdatasync of the log failed ({os.strerror(code)}): this process must be restarted"
            try:
                self.directory.distrust()
            except OSError:
                pass    # then it is for the torn end of the log to tell

    cdef uint64_t log_bytes(self) noexcept:
        return self.log.written_to - self.log.oldest

    cdef int room(self) noexcept:
        cdef uint64_t taken = self.buffer.region.chunks_taken * self.buffer.region.chunk_bytes
        cdef uint64_t logged = self.log_bytes()
        if taken >= self.buffer_hard or logged >= self.log_hard or self.refusal is not None:
            return ROOM_NONE
        return ROOM_SOFT if taken >= self.buffer_soft or logged >= self.log_soft else ROOM_PLENTY

    @property
    def read_only(self) -> str | None:
        return self.refusal

    @property
    def failed_fsync(self) -> bool:
        self.check_sync()
        return self.sync_failure != 0

    def sync_fileno(self) -> int | None:
        return self.log.commit.fileno()

    def sync_done(self) -> None:
        self.log.commit.done()
        self.check_sync()

    def freeze(self, range_index: int) -> int:
        """The range's records are to be moved, and stay as they are until then; the log position that covers them."""
        self.buffer.freeze(range_index)
        return self.log.position()

    def stretches_of(self, range_index: int) -> bytes:
        """Where the range's frozen records lie."""
        return self.buffer.frozen_of(range_index).stretches()

    def drop_frozen(self, range_index: int) -> None:
        """The range's frozen records are in LMDB: the memory is free, and so are the log's segments that nobody needs now."""
        self.snapshot.renew()
        self.transaction = self.snapshot.transaction.id()
        self.buffer.drop_frozen(range_index)
        self.forget()

    def forget(self) -> None:
        """Segments of the log whose records are all in LMDB are needed no more."""
        self.log.forget_before(self.buffer.oldest_position(self.log.position()), self.transaction)

    def roll(self) -> None:
        """The log's last segment had to grow; now it ends, and goes as soon as all of it is in LMDB."""
        try:
            self.log.roll()
        except OSError as error:
            self.postpone(error)
        self.forget()

    def tick(self) -> list:
        """What is due and does not wait; the jobs that do, which the caller runs in a thread and tells `postpone` when they fail."""
        cdef int64_t began = self.clock_ns()
        self.check_sync()
        self.checkpoints.step(self, began)
        jobs = []
        if self.log.written_to > self.log.commit.durable() and began >= self.next_sync_ns:
            self.next_sync_ns = began + <int64_t>(self.settings.sync_seconds * 1e9)
            self.log.commit.request()
        if began >= self.not_before_ns:
            if self.refusal is not None:
                self.not_before_ns = began + RETRY_NS
                self.retry()
            elif self.log.outgrown:
                self.roll()
            elif self.log.wants_segment:
                jobs.append(self.log.prepare)
            if self.log.doomed:
                jobs.append(self.log.remove_doomed)
            if self.suspected.unsaved:
                self.suspected.unsaved = False
                jobs.append(partial(self.directory.set_suspects, self.suspects))
        if not self.checkpoints.under_way:
            self.buffer.region.trim(TRIM_CHUNKS)
        self.tick_ns.record(<int64_t>self.clock_ns() - began)
        return jobs

    def postpone(self, error: OSError) -> None:
        """A job of a tick failed: what is still wanted is offered again after a while."""
        self.not_before_ns = <int64_t>self.clock_ns() + RETRY_NS
        self.suspected.unsaved = self.suspects != self.directory.suspects

    @property
    def resting(self) -> bool:
        """Whether ticks have nothing to do until the next write."""
        log = self.log
        return (log.commit.durable() == log.position() and not self.checkpoints.under_way and not self.checkpoints.due(self)
                and self.refusal is None and not (log.wants_segment or log.outgrown or log.doomed) and not self.suspected.unsaved
                and not self.buffer.region.chunks_dirty)

    async def wait_for_write(self) -> None:
        """Returns after the end of the next pass that wrote something, or when there are suspects to be written down."""
        self.waker = trio.Event()
        await self.waker.wait()

    def scan(self, bytes start not None, bytes end not None, limit: int) -> list:
        return merge_scans(self.buffer.scan(start, end, limit, True), self.snapshot.transaction, start, end, limit, self.rotten)

    def rotten(self, bytes store_key not None) -> None:
        """The record in LMDB under a store key cannot be read."""
        self.rot(<const uint8_t *><const char *>store_key)

    def suspect(self, partition: int) -> None:
        Engine.suspect(self, partition)
        self.wake()

    def forgive(self, partition: int) -> None:
        Engine.forgive(self, partition)
        self.wake()

    def save_suspects(self) -> None:
        """At the end of recovery, before anything is written: the suspects, and only then what would make the next start trust the log."""
        self.suspected.unsaved = False
        try:
            self.directory.set_suspects(self.suspects)
            self.directory.trust()
        except OSError as error:
            self.postpone(error)    # of a full disk: the next start finds what this one found, and reads go on meanwhile
        self.directory.begin()

    def recompute(self, partition: int, leaf: int, mac_key: bytes | None = None) -> LeafFindings:
        findings = recompute(self, partition, leaf, mac_key)
        self.leaves_corrected += findings.corrected or findings.repair
        return findings

    def repair(self, partition: int, leaf: int) -> None:
        """The helper is to sum up a leaf in LMDB anew, after the next checkpoint of its range."""
        self.checkpoints.repairs.add((partition, leaf))
        self.wake()

    def statistics(self) -> dict:
        return engine_statistics(self)

    async def run(self, offload: object) -> None:
        await maintain(self, offload)

    def close(self) -> None:
        """Syncs the log and leaves the mark of a clean end, unless the disk refuses."""
        if self.log is None:
            return
        self.checkpoints.close()
        clean = self.refusal is None
        try:
            self.log.write()
            self.log.sync_all()
            self.directory.set_suspects(self.suspects)
        except OSError:
            clean = False
        end = self.log.position()
        self.log.close()
        self.log = None
        if clean:
            try:
                self.directory.mark_clean(end)
            except OSError:
                pass    # the next start looks harder than it would have to
        self.abandon()

    def abandon(self) -> None:
        """Gives back what an engine holds that is not, or no more, open."""
        if self.snapshot is not None:
            self.snapshot.close()
        self.directory.close()
