"""The contract that every storage engine keeps; tests/storage/test_engine.py is the same contract as a suite.

An engine maps store keys to records and keeps the Merkle forest of what it holds up to date inside each store and
removal. Reading, storing and removing are plain calls that never wait: durability comes in two steps, the log write at the end of a pass of the
loop, and the fdatasync that `request_sync` starts. Everything that may wait happens in `run`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, record_check, record_error

from dynamo_fast.storage.report import LeafFindings


class StorageError(Exception):
    """The disk or the memory of this node cannot take the write. The message says why and what to do."""


class ReadOnlyError(StorageError):
    """Writes are refused since the disk is full or failed; reads go on."""


cdef const uint8_t *key_octets(bytes store_key) except NULL:
    if PyBytes_GET_SIZE(store_key) != STORE_KEY_BYTES:
        raise ValueError(f"a store key has {STORE_KEY_BYTES} bytes, not {len(store_key)}")
    return <const uint8_t *>PyBytes_AS_STRING(store_key)


cdef class Engine:
    """Base of the engines. From Python: `get`, `put`, `delete`, `flush`; from Cython: `find`, `store`, `remove`, `end_pass`."""

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        raise NotImplementedError

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1:
        raise NotImplementedError

    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1:
        raise NotImplementedError

    cdef int end_pass(self) except -1:
        raise NotImplementedError

    cdef uint64_t log_position(self) noexcept:
        return 0

    cdef uint64_t durable_position(self) noexcept:
        return 0

    cdef int request_sync(self) except -1:
        return 0

    cdef int room(self) noexcept:
        return ROOM_PLENTY

    cpdef bint is_suspect(self, uint32_t partition) noexcept:
        """Whether the partition is among the `suspects`."""
        return self.suspected.has(partition)

    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil:
        pass

    @property
    def position(self) -> int:
        """`log_position` for Python: end of the log, in bytes since the directory was made."""
        return self.log_position()

    @property
    def durable(self) -> int:
        """`durable_position` for Python: the log is on disk up to here."""
        return self.durable_position()

    @property
    def fullness(self) -> int:
        """`room` for Python: 0 plenty, 1 slow down, 2 refuse client puts."""
        return self.room()

    @property
    def read_only(self) -> str | None:
        """Why writes are refused, in a sentence; None while they are taken."""
        return None

    @property
    def failed_fsync(self) -> bool:
        """Whether an fdatasync failed: nobody knows what the disk holds of the log, and the process must restart."""
        return False

    @property
    def suspects(self) -> frozenset:
        """The partitions in which records that were acknowledged here may be missing. They stay suspect until forgiven."""
        return self.suspected.as_set()

    def suspect(self, partition: int) -> None:
        """Records of the partition turned out to be missing or damaged."""
        self.suspected.add((partition,))

    def forgive(self, partition: int) -> None:
        """What the partition may have lost has been fetched from elsewhere, and is on disk here."""
        self.suspected.remove(partition)

    def get(self, bytes store_key not None) -> bytes | None:
        """The record under a store key; None when there is none, or none that can be read."""
        cdef RecordView view
        if self.find(key_octets(store_key), &view) != FIND_RECORD:
            return None
        return view.data[:view.n]

    def put(self, bytes store_key not None, bytes record not None, old_hash: int | None = None) -> None:
        """Stores a record; ValueError for bytes that are none. `old_hash` is looked up unless given."""
        cdef RecordView view
        cdef uint64_t old = 0
        cdef int code
        cdef const uint8_t *key = key_octets(store_key)
        if old_hash is not None:
            old = old_hash
        elif self.find(key, &view) == FIND_RECORD:
            old = view.hash
        code = record_check(<const uint8_t *>PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), &view)
        if code < 0:
            raise ValueError(f"not a record: {record_error(code).decode()}")
        self.store(key, view.data, view.n, old)

    def delete(self, bytes store_key not None, expected_hash: int | None = None) -> bool:
        """Removes a record, only that version when its hash is given; whether there was one to remove.

        A record that cannot be read has no hash: it goes when none is expected.
        """
        cdef RecordView view
        cdef const uint8_t *key = key_octets(store_key)
        cdef int found = self.find(key, &view)
        cdef uint64_t old = view.hash if found == FIND_RECORD else 0
        if found == FIND_NOTHING or (expected_hash is not None and (found != FIND_RECORD or old != expected_hash)):
            return False
        self.remove(key, old)
        return True

    def holds(self, partition: int) -> bool:
        """Whether there is any record in a partition, as its Merkle tree says."""
        return self.forest.root(partition) != 0

    def flush(self) -> None:
        """`end_pass` for Python: what was put and deleted is in the log when this returns. StorageError when it cannot be."""
        self.end_pass()

    def sync(self) -> None:
        """`request_sync` for Python."""
        self.request_sync()

    def sync_fileno(self) -> int | None:
        """A descriptor that becomes readable when a sync is done; None when syncs are done at once."""
        return None

    def sync_done(self) -> None:
        """Call when `sync_fileno` is readable: makes it unreadable again."""

    def scan(self, bytes start not None, bytes end not None, limit: int) -> list:
        """The first `limit` pairs of store key and record with start <= store key < end, in order."""
        raise NotImplementedError

    def recompute(self, partition: int, leaf: int, mac_key: bytes | None = None) -> LeafFindings:
        """Sums up a leaf of the Merkle tree anew from the records there are, checks those, and corrects what was wrong.

        `mac_key` is the cluster's secret: with it records are known to stand under their own store key, without it only at their
        position. What cannot have come about without damage makes the partition suspect. Waits for the disk as long as a read of the
        leaf's records does.
        """
        raise NotImplementedError

    def statistics(self) -> dict:
        """What the engine has done and holds; counts since it was opened unless named otherwise."""
        raise NotImplementedError

    async def run(self, offload: object) -> None:
        """Does what may wait, for as long as it is not cancelled; `offload` runs a function in a thread, as Env's does."""
        raise NotImplementedError

    def close(self) -> None:
        """Stops threads and processes and closes files. What was flushed is kept."""


cdef class ReplayVisitor:
    """Override `replayed` in Cython, or `on_replayed` in Python."""

    cdef int replayed(self, const uint8_t *store_key, const RecordView *view) except -1:
        self.on_replayed(store_key[:STORE_KEY_BYTES], view.data[:view.n])
        return 0

    def on_replayed(self, bytes store_key not None, bytes record not None) -> None:
        """One of the last records of the log, oldest first; removals are not shown."""
