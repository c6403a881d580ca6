"""This node's copies, and what other nodes and this node's own tasks do with them.

The replica's side of coordination: REPLICATE merges and acknowledges, READ shows what is here. Both carry the name of the placement that
the sender works by; one that is not in force here is refused, because we may not be a home in it. During a change of members two are
in force, and a home in either keeps what it is sent as its own. What no home can take now comes as a hint, and is kept apart from what
is ours by its `owed` (replica.pyx).

Tasks (delivery, handoff, forgetting) come between passes: each call here is a pass of its own, with one log write for all it has done.

What asks for durability waits in `sync_queue`, in the order of log positions, until the group commit has passed it.
"""

cimport cython
from collections import deque

import trio

from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire.errors import MessageTooLong, OutgoingFull, ProtocolError

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.node.answers cimport answer_bytes
from dynamo_fast.node.replica cimport DAMAGED, ObjectView
from dynamo_fast.storage.engine cimport FIND_RECORD
from dynamo_fast.storage.schema cimport BUCKET_BYTES_MAX, KEY_BYTES_MAX, STORE_KEY_BYTES, RecordView
from dynamo_fast.wire.data_messages cimport *
from dynamo_fast.wire.frame cimport FRAME_SAME, FRAME_UNSURE
from dynamo_fast.wire.object_page cimport PAGE_OBJECTS_MAX, PageObject, next_object

cdef enum:
    VERSION_BYTES = 32     # a store key and a hash
    MESSAGE_HEAD_BYTES = 16384  # what stands around an object in the messages that carry one: its key and bucket, and what frames them
    SYNCS_PER_REQUEST = 4  # acknowledgements that wait for the disk at once, for every request that one node may have under way


@cython.final
@cython.freelist(1024)
cdef class SyncWaiter:
    """One acknowledgement that waits for the disk."""


cdef SyncWaiter waiter(Connection peer, uint64_t request_id):
    cdef SyncWaiter made = SyncWaiter.__new__(SyncWaiter)
    made.peer = peer
    made.request_id = request_id
    return made


cdef class Copies(PassHandler):
    """What a DataPlane has of copies; made by it."""

    cdef int set_up(self, Engine engine, bytes node_id, uint64_t nonce, random_bytes, limits, requests, storage_failed) except -1:
        self.engine = engine
        self.replica = Replica(engine, node_id, nonce, bytes(16), random_bytes)
        self.replica.merge_bytes_max = limits.message_bytes_max - MESSAGE_HEAD_BYTES
        self.lookahead = Lookahead(self.replica)
        self.storage_failed = storage_failed
        self.pass_waiters = []
        self.sync_queue = deque()
        self.sync_queue_max = SYNCS_PER_REQUEST * requests.requests_in_flight_max
        self.hint_bytes_max = limits.hint_bytes_max
        return 0

    # Other nodes ------------------------------------------------------------------------------------------------------------------

    cdef int reply(self, Connection peer, const FrameHeader *header, uint16_t status) except -1:
        return answer_bytes(peer, header.type + 1, 0, status, header.request_id, NULL, 0)

    cdef int replicate(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """REPLICATE: merge, then acknowledge, after the disk if asked to."""
        cdef ReplicateMessage message
        cdef Address address
        cdef ObjectView kept
        cdef int status, owed
        if parse_replicate(body, header.body_bytes, &message) != 0:
            raise ProtocolError("a REPLICATE that cannot be read")
        self.replicates += 1
        if self.view is None or not self.view.accepts(message.placement):
            status = STATUS_STALE_PLACEMENT
        else:
            self.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
            owed = self.keep_apart(&address, &message)
            status = -owed if owed < 0 else self.replica.merge(&address, message.object, message.object_bytes, <uint16_t>owed, &kept)
        if message.flags & REPLICATE_NO_REPLY:
            return 0
        if status == STATUS_OK and message.flags & REPLICATE_ACK_DURABLE:
            if len(self.sync_queue) + len(self.pass_waiters) >= self.sync_queue_max:
                return self.reply(peer, header, STATUS_OVERLOAD)
            self.pass_waiters.append(waiter(peer, header.request_id))
            return 0
        return self.reply(peer, header, status)

    cdef int keep_apart(self, const Address *address, const ReplicateMessage *message) except -2:
        """For which homes the object is to be kept as a hint: 0 when this node is a home itself; a status below 0: it must not be kept.

        During a change of members a node may be a home in a placement that it does not write to yet, or no longer, and somebody else who
        does not either may take it for a fallback: then a hint is a hint, and what is none is from somebody who takes it for a home.
        A hint that was taken is never dropped, so one for which there is no room is refused, and not acknowledged (!).
        The slot counts in the placement that the sender works by. If that is another one than ours it says nothing here, and all homes are
        owed: who is a home in the other one alone gets what it lacks from those, when it takes the partition over.
        """
        cdef int slot = message.flags >> REPLICATE_SLOT_SHIFT
        cdef uint32_t partition = self.view.reads.ring.partition_of(address.position)
        if self.view.writes.own[partition] >= 0 or (self.view.at_home[partition] and not message.flags & REPLICATE_HINT):
            return 0
        if not message.flags & REPLICATE_HINT:
            return -STATUS_STALE_PLACEMENT
        if message.placement == self.view.placement and slot >= <int>self.view.writes.ring.replicas:
            return -STATUS_BAD_REQUEST
        if self.replica.hint_bytes + <int64_t>message.object_bytes > self.hint_bytes_max:
            self.hints_refused += 1
            return -STATUS_OVERLOAD
        self.hints_taken += 1
        if message.flags & REPLICATE_FOR_ALL or message.placement != self.view.placement:
            return self.replica.all_homes
        return 1 << slot

    cdef int read(self, Connection peer, const FrameHeader *header, const uint8_t *body) except -1:
        """READ: our copy, or SAME when it has the hash that the question names."""
        cdef ReadMessage message
        cdef Address address
        cdef ObjectView own
        cdef int status
        cdef uint8_t flags
        cdef uint8_t *out
        if parse_read(body, header.body_bytes, &message) != 0:
            raise ProtocolError("a READ that cannot be read")
        self.reads += 1
        if self.view is None or not self.view.accepts(message.placement):
            return self.reply(peer, header, STATUS_STALE_PLACEMENT)
        self.lookahead.locate(message.bucket, message.bucket_bytes, message.key, message.key_bytes, &address)
        flags = FRAME_UNSURE if self.engine.is_suspect(self.view.reads.ring.partition_of(address.position)) else 0
        status = self.replica.find(&address, &own)
        if status == DAMAGED:
            # An answer of "nothing" would count towards R; a damaged copy proves nothing.
            return self.reply(peer, header, STATUS_READ_ONLY)
        if status != STATUS_OK:
            return answer_bytes(peer, MESSAGE_READ_REPLY, flags, status, header.request_id, NULL, 0)
        if own.hash == message.known_hash:
            return answer_bytes(peer, MESSAGE_READ_REPLY, flags | FRAME_SAME, STATUS_OK, header.request_id, NULL, 0)
        try:
            out = peer.begin(MESSAGE_READ_REPLY, flags, STATUS_OK, header.request_id, own.n)
        except OutgoingFull as error:
            return self.reply(peer, header, STATUS_TOO_LARGE if isinstance(error, MessageTooLong) else STATUS_OVERLOAD)
        memcpy(out, own.data, own.n)
        return peer.finish()

    # Tasks ------------------------------------------------------------------------------------------------------------------------

    def merge_entries(self, list entries not None):
        """Merges (bucket, key, packed object) triples into this node's copies, in a pass of its own: one log write for all.

        A list of (status, hash) in their order: OK and the hash of what this node holds now; STALE_PLACEMENT for a partition of
        which it is no home; BAD_REQUEST for what is no object or no key; or why the two cannot be merged. Merged objects are
        visible, in the log, and not yet on disk: see `wait_durable`. Raises StorageError when the log cannot be written: then
        this node vouches for none of them.
        """
        cdef Address address
        cdef ObjectView kept
        cdef bytes bucket, key, packed
        cdef int status = STATUS_OK
        cdef list results = []
        for bucket, key, packed in entries:
            kept.hash = 0
            if not 1 <= len(key) <= KEY_BYTES_MAX or len(bucket) > BUCKET_BYTES_MAX:
                results.append((STATUS_BAD_REQUEST, 0))
                continue
            self.replica.locate(<const uint8_t *><const char *>bucket, len(bucket), <const uint8_t *><const char *>key, len(key), &address)
            if self.view is None or not self.view.at_home[self.engine.forest.partition_of(address.position)]:
                status = STATUS_STALE_PLACEMENT
            else:
                status = self.replica.merge(&address, <const uint8_t *><const char *>packed, len(packed), 0, &kept)
                if status == STATUS_READ_ONLY:
                    break
            results.append((status, kept.hash if status == STATUS_OK else 0))
        self.end_task()
        if status == STATUS_READ_ONLY:
            raise StorageError(self.engine.read_only or "the engine takes no more records")
        return results

    def merge_page(self, bytes page not None, int partition, bytes after not None, bytes until not None):
        """Merges a page of objects of one partition (wire/object_page.pyx), in a pass of its own: one log write for all.

        Their store keys ascend, lie behind `after` (24 bytes, or none) and not behind `until` (24 bytes), both of which lie in the partition:
        ValueError, before anything is merged, when one does not, or when the page cannot be taken apart. (objects, bytes of names, keys and
        objects, how many added nothing to what was here, how many could not be merged); None when this node is no home of the partition.
        Durability and StorageError as in `merge_entries`.
        """
        cdef const uint8_t *at = <const uint8_t *><const char *>page
        cdef const uint8_t *end = at + len(page)
        cdef PageObject one
        cdef ObjectView kept
        cdef Address *address
        cdef int status = STATUS_OK
        cdef Py_ssize_t i, count, size = 0, refused = 0
        cdef uint64_t stored = self.replica.stored
        if self.view is None or not self.view.at_home[partition]:
            return None
        cdef Address *addresses = <Address *>malloc(PAGE_OBJECTS_MAX * sizeof(Address))
        if addresses == NULL:
            raise MemoryError
        try:
            count = self.locate_page(at, end, after, until, addresses)
            for i in range(count):
                next_object(&at, end, &one)
                address = addresses + i
                status = self.replica.merge(address, one.object, one.object_bytes, 0, &kept)
                if status == STATUS_READ_ONLY:
                    break
                refused += status != STATUS_OK
                size += <Py_ssize_t>(address.bucket_bytes + address.key_bytes) + <Py_ssize_t>one.object_bytes
        finally:
            free(addresses)
        self.end_task()
        if status == STATUS_READ_ONLY:
            raise StorageError(self.engine.read_only or "the engine takes no more records")
        return count, size, count - refused - <Py_ssize_t>(self.replica.stored - stored), refused

    cdef Py_ssize_t locate_page(self, const uint8_t *at, const uint8_t *end, bytes after, bytes until, Address *addresses) except -1:
        """Where the objects of a page belong, and how many they are. ValueError as `merge_page` says."""
        cdef PageObject one
        cdef Address *address
        cdef Py_ssize_t count = 0
        cdef int more
        cdef const uint8_t *before = <const uint8_t *><const char *>after if after else NULL
        cdef const uint8_t *last = <const uint8_t *><const char *>until
        if len(after) not in (0, STORE_KEY_BYTES) or len(until) != STORE_KEY_BYTES:
            raise ValueError(f"a page lies between store keys of {STORE_KEY_BYTES} bytes")
        while True:
            more = next_object(&at, end, &one)
            if more == 0:
                return count
            if more < 0 or count == PAGE_OBJECTS_MAX:
                raise ValueError("a page of objects that is cut short, or announces what cannot be")
            address = addresses + count
            self.replica.locate(one.bucket, one.bucket_bytes, one.key, one.key_bytes, address)
            if (before != NULL and memcmp(address.store_key, before, STORE_KEY_BYTES) <= 0) or memcmp(address.store_key, last, STORE_KEY_BYTES) > 0:
                raise ValueError("a page of a partition that does not lead on, or has what was not asked for")
            before = address.store_key
            count += 1

    @property
    def hints_kept(self):
        """How often something has been stored for another node: unchanged means that there is no new hint."""
        return self.replica.hints_kept

    def count_hints(self, int64_t bytes):
        """So many bytes of records are kept here for others, those from before this process among them; from now on `limits.hint_bytes_max`
        goes by that. Told by who has looked through them (handoff.py)."""
        self.replica.hint_bytes = bytes

    def settle_hints(self, list confirmed not None, number=None):
        """Takes note of (store key, hash, slots): the homes in those slots (a bit each) hold that version on disk. How many records are not
        needed any more and gone; whatever has changed since stays. Raises StorageError when the log cannot be written.

        `number` is that of the placement in which the slots count: if new hints count in another one by now, nothing is noted, and the
        hints are delivered again. Where this node has become a home, what is not needed for others any more stays as its own.
        """
        cdef bytes store_key
        cdef uint64_t hash
        cdef uint16_t slots
        cdef Py_ssize_t removed = 0
        if number is not None and number & 0xFFFF != self.replica.placement_number:
            return 0
        for store_key, hash, slots in confirmed:
            removed += self.replica.settle_owed(<const uint8_t *><const char *>store_key, hash, slots, self.is_home(store_key))
        self.end_task()
        return removed

    cdef bint is_home(self, bytes store_key) except -1:
        """Whether this node is a home of that record in any placement that is in force here."""
        if len(store_key) != STORE_KEY_BYTES:
            raise ValueError(f"a store key has {STORE_KEY_BYTES} bytes, not {len(store_key)}")
        return self.view is not None and self.view.at_home[self.engine.forest.partition_of(<const uint8_t *><const char *>store_key)]

    def own_hints(self, list store_keys not None):
        """What this node keeps for others under those keys is its own from now on, where it has become a home. How many records were not
        before. Raises StorageError when the log cannot be written."""
        cdef bytes store_key
        cdef Py_ssize_t owned = 0
        for store_key in store_keys:
            if self.is_home(store_key):
                owned += self.replica.own(<const uint8_t *><const char *>store_key)
        self.end_task()
        return owned

    def remove_old_copies(self, list versions not None):
        """Removes the records of those (store key, hash) pairs which this node has as its own though it is no home of them any more. How
        many; what has changed since, hints, and what is in a partition of its own stay. Raises StorageError when the log cannot be written.

        Only what the homes are known to have on disk may be given here.
        """
        cdef bytes store_key
        cdef uint64_t hash
        cdef RecordView view
        cdef Py_ssize_t removed = 0
        for store_key, hash in versions:
            if self.view is None or self.is_home(store_key):
                continue
            if (self.engine.find(<const uint8_t *><const char *>store_key, &view) == FIND_RECORD and view.hash == hash
                    and view.owed == 0):
                self.engine.remove(<const uint8_t *><const char *>store_key, hash)
                removed += 1
        self.end_task()
        return removed

    def holds_versions(self, bytes versions not None):
        """Of (store key, hash) pairs of 32 bytes, the hash little-endian: a byte for each, 1 when the record here has that hash, else 0."""
        cdef const uint8_t *at = <const uint8_t *><const char *>versions
        cdef RecordView view
        cdef Py_ssize_t i, count = len(versions) // VERSION_BYTES
        cdef bytearray held = bytearray(count)
        for i in range(count):
            held[i] = (self.engine.find(at + VERSION_BYTES * i, &view) == FIND_RECORD
                       and view.hash == load_u64(at + VERSION_BYTES * i + STORE_KEY_BYTES))
        return bytes(held)

    def forget(self, bytes versions not None, uint64_t before_ms, uint32_t entries_max):
        """Drops those versions (pairs as in `holds_versions`) that are still held: a record of nothing but deletes goes, of others the
        clock is settled. (records removed, records settled); StorageError when the log cannot be written.

        Only what forgetting.py has made sure of may be dropped.
        """
        cdef const uint8_t *at = <const uint8_t *><const char *>versions
        cdef Py_ssize_t i, done, reaped = 0, settled = 0
        for i in range(len(versions) // VERSION_BYTES):
            done = self.replica.forget(at + VERSION_BYTES * i, load_u64(at + VERSION_BYTES * i + STORE_KEY_BYTES), before_ms, entries_max)
            reaped += done == 1
            settled += done == 2
        self.end_task()
        return reaped, settled

    cdef int end_task(self) except -1:
        """The log write of what a task has stored. StorageError when it fails."""
        try:
            return self.engine.end_pass()
        except StorageError as error:
            self.storage_failed(error)
            raise

    async def wait_durable(self, uint64_t position):
        """Returns when the log is on disk up to `position`, a value that the engine's `position` has had.

        Raises StorageError when the disk will not get there, or too many wait for it already.
        """
        cdef SyncWaiter waiting
        await trio.lowlevel.checkpoint()
        self.engine.request_sync()
        if self.engine.durable_position() >= position:
            return
        if self.engine.failed_fsync or len(self.sync_queue) >= self.sync_queue_max:
            raise StorageError(self.engine.read_only or "too many wait for the disk already; try again later")
        waiting = SyncWaiter.__new__(SyncWaiter)
        waiting.event = trio.Event()
        # The queue is in the order of positions.
        waiting.position = max(position, (<SyncWaiter>self.sync_queue[len(self.sync_queue) - 1]).position) if self.sync_queue else position
        self.sync_queue.append(waiting)
        await waiting.event.wait()
        if waiting.failed:
            raise StorageError(self.engine.read_only or "the log could not be synced")
