"""This node's own copy of a key: the two ways it changes, a put coordinated here and a merge of what another replica sent.

Both end in `keep`, which hashes the new object, packs it into a record and stores it; the engine replaces the old hash by
the new one in the Merkle tree in the same step, so object and tree cannot disagree.

The epoch rule (a dot is never issued twice, and never claims what its maker has not seen). Beside each record stands a mark
(nonce, epoch), which never leaves this node. INVARIANT: a mark with this process's nonce says that since this process
began, this node has held this record without a gap and has itself issued every dot of (node, epoch) up to the counter in the
record's clock. Hence:
  * `put` continues an epoch only under such a mark, and sets the mark to the epoch it used;
  * `merge` keeps the mark, unless what arrived shows a higher counter of that very epoch: somebody else has issued dots in
    our name (a cloned or restored data directory). Then the mark goes, the next put takes a fresh epoch, and an alarm is counted;
  * a record that is absent or damaged has no mark, so the next put takes a fresh epoch.
A fresh epoch is 64 random bits and starts at counter 1.

Hints. A record in a partition of which this node is no home is kept for others: its `owed` has a bit for each home, by its slot in
the preference list, that is to have it and has not confirmed that it does (paper 4.6; `handoff.py` delivers). INVARIANT: a bit
goes only for a copy with the very hash that the home has confirmed after its fdatasync; a record whose last bit goes is removed.
Slots count in the placement whose number stands beside them; in another one they mean nothing any more, and all homes are owed.
A change of members makes nodes homes of partitions, or no homes any more. A hint that is stored again by a node that is a home now is
its own; a record of its own that somebody who is no home any more is to keep as a hint is owed to all homes: nobody knows which of them
has what stood there before.

Statuses returned are the wire's: STATUS_OK, STATUS_NOT_FOUND, or why not.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from dynamo_fast.storage.engine import StorageError

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.core.digest cimport key_position
from dynamo_fast.core.merkle cimport entry_hash_at
from dynamo_fast.core.siblings cimport (
    OBJECT_CLOCK_FULL,
    OBJECT_TOO_MANY_DOTS,
    OBJECT_TOO_MANY_SIBLINGS,
    SIBLING_TOMBSTONE,
    PutArguments,
    SiblingView,
    epoch_choose,
    epoch_survives_merge,
    object_check,
    object_counter,
    object_has_request,
    object_merge,
    object_next,
    object_put,
    object_put_bound,
    object_settle,
    object_sibling_count,
)
from dynamo_fast.storage.engine cimport FIND_NOTHING, FIND_RECORD, FIND_ROT, ROOM_NONE
from dynamo_fast.storage.schema cimport POSITION_BYTES, record_bytes, record_write, store_key_write
from dynamo_fast.wire.data_messages cimport (
    PUT_OVERWRITE,
    PUT_TOMBSTONE,
    STATUS_BAD_REQUEST,
    STATUS_CLOCK_FULL,
    STATUS_KEY_COLLISION,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_READ_ONLY,
    STATUS_TOO_LARGE,
    STATUS_TOO_MANY_SIBLINGS,
)

cdef enum:
    OTHER_KEY = 3
    EPOCH_POOL_BYTES = 4096
    KEPT_BYTES = 8 << 20  # of memory for the next object; what a longer one took is given back


cdef inline int grow(uint8_t **memory, size_t *capacity, size_t wanted) except -1:
    """Room for that many bytes; what was there is not kept."""
    return 0 if wanted <= capacity[0] <= KEPT_BYTES else fit(memory, capacity, wanted)


cdef int fit(uint8_t **memory, size_t *capacity, size_t wanted) except -1:
    cdef size_t target = capacity[0]
    cdef uint8_t *grown
    if target > KEPT_BYTES:
        if KEPT_BYTES < wanted <= target:
            return 0
        target = KEPT_BYTES
    while target < wanted:
        target *= 2
    grown = <uint8_t *>realloc(memory[0], target)
    if grown == NULL:
        raise MemoryError
    memory[0] = grown
    capacity[0] = target
    return 0


cdef class Replica:
    """Replica(engine, node_id, nonce, mac_key, random_bytes).

    `node_id` and `mac_key` (the cluster's secret) are 16 bytes; `nonce` is a random 64-bit number, new at every process
    start; `random_bytes(n)` gives the bits of fresh epochs.
    """

    def __cinit__(self, Engine engine not None, bytes node_id not None, uint64_t nonce, bytes mac_key not None, random_bytes):
        if len(node_id) != 16 or len(mac_key) != 16:
            raise ValueError("a node id and a cluster secret have 16 bytes")
        self.engine = engine
        memcpy(self.node_id, <const char *>node_id, 16)
        memcpy(self.mac_key, <const char *>mac_key, 16)
        self.nonce = nonce
        self.random_bytes = random_bytes
        self.epochs = b""
        self.merge_bytes_max = 0xFFFFFFFF
        self.work_bytes = self.record_bytes = 4096
        self.work = <uint8_t *>realloc(NULL, self.work_bytes)
        self.record = <uint8_t *>realloc(NULL, self.record_bytes)
        if self.work == NULL or self.record == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.work)
        free(self.record)

    cdef int locate(self, const uint8_t *bucket, size_t bucket_bytes, const uint8_t *key, size_t key_bytes, Address *address) noexcept:
        """Everything but the partition, which depends on the placement. Lengths are those of a parsed message: within bounds."""
        address.bucket, address.bucket_bytes = bucket, bucket_bytes
        address.key, address.key_bytes = key, key_bytes
        key_position(bucket, bucket_bytes, key, key_bytes, address.position)
        store_key_write(self.mac_key, address.position, bucket, bucket_bytes, key, key_bytes, address.store_key)
        return 0

    cdef uint8_t *room(self, size_t object_bytes) except NULL:
        """Where an object of up to that many bytes may be made: right behind the place of its position."""
        grow(&self.work, &self.work_bytes, POSITION_BYTES + object_bytes)
        return self.work + POSITION_BYTES

    cdef uint64_t fresh_epoch(self) except? 0:
        cdef uint64_t epoch
        if self.epochs_used + 8 > len(self.epochs):
            self.epochs = self.random_bytes(EPOCH_POOL_BYTES)
            self.epochs_used = 0
        epoch = load_u64(<const uint8_t *><const char *>self.epochs + self.epochs_used)
        self.epochs_used += 8
        return epoch

    cdef int look(self, const Address *address, RecordView *view) except -1:
        """What the engine's find says (rot is as good as absent, but no proof of absence), or OTHER_KEY: the place is another key's."""
        cdef int found = self.engine.find(address.store_key, view)
        if found == FIND_RECORD and (view.key_n != address.key_bytes or view.bucket_n != address.bucket_bytes
                           or memcmp(view.key, address.key, address.key_bytes) != 0
                           or memcmp(view.bucket, address.bucket, address.bucket_bytes) != 0):
            return OTHER_KEY
        if found == FIND_ROT:
            self.damaged += 1
        return found

    cdef int find(self, const Address *address, ObjectView *found) except -1:
        """STATUS_OK with the object, STATUS_NOT_FOUND, STATUS_KEY_COLLISION; or 0xFFFF: damaged here, ask somebody else."""
        cdef RecordView view
        cdef int outcome = self.look(address, &view)
        found.data, found.n, found.hash = NULL, 0, 0
        if outcome == FIND_RECORD:
            found.data, found.n, found.hash = view.object, view.object_n, view.hash
            return STATUS_OK
        if outcome == FIND_NOTHING:
            return STATUS_NOT_FOUND
        return STATUS_KEY_COLLISION if outcome == OTHER_KEY else DAMAGED

    cdef int put(self, const Address *address, const PutMessage *message, const uint8_t *context, uint32_t context_count,
                 const uint8_t *dot, bint last_write_wins, bint seen_before, uint32_t siblings_max, size_t object_bytes_max,
                 int64_t wall_ms, uint16_t owed, ObjectView *result) except -1:
        """A put coordinated here (paper 4.4, 4.5): a new dot, the siblings that the context has seen dropped, the rest kept.

        `seen_before` says that this coordinator has made a dot for this put id: then, and when the object still shows the id,
        the object as it stands is the result and no second dot is made. `result` is the whole object, for the other replicas.
        `owed`: for which homes this copy is a hint, 0 at a home.
        """
        cdef RecordView view
        cdef PutArguments arguments
        cdef size_t n
        cdef int outcome = self.look(address, &view)
        cdef int alarm = 0
        cdef bint have = outcome == FIND_RECORD
        if outcome == OTHER_KEY:
            return STATUS_KEY_COLLISION
        if have and (seen_before or object_has_request(view.object, view.object_n, message.put_id)):
            self.retries += 1
            if view.owed and not owed:
                memcpy(self.room(view.object_n), view.object, view.object_n)
                return self.keep(address, view.object_n, view.mark_nonce, view.mark_epoch, &view, 0, result)
            result.data, result.n, result.hash = view.object, view.object_n, view.hash
            return STATUS_OK
        arguments.local = view.object if have else NULL
        arguments.local_n = view.object_n if have else 0
        arguments.context = context
        arguments.context_count = context_count
        arguments.dot = dot
        arguments.overwrite = (message.flags & PUT_OVERWRITE) != 0
        arguments.node = self.node_id
        arguments.epoch = epoch_choose(arguments.local, arguments.local_n, view.mark_nonce if have else 0, view.mark_epoch if have else 0,
                                       self.nonce, context, context_count, dot, self.node_id, self.fresh_epoch(), &alarm)
        arguments.timestamp_ms = max(wall_ms, 0)
        arguments.request_id = message.put_id
        arguments.tombstone = (message.flags & PUT_TOMBSTONE) != 0
        arguments.last_write_wins = last_write_wins
        arguments.value = message.value
        arguments.value_n = message.value_bytes
        self.epoch_alarms += alarm
        cdef uint8_t *made = self.room(object_put_bound(&arguments))
        outcome = object_put(&arguments, made, self.work_bytes - POSITION_BYTES, &n)
        if outcome < 0:
            return (STATUS_CLOCK_FULL if outcome == OBJECT_CLOCK_FULL else
                    STATUS_TOO_MANY_SIBLINGS if outcome == OBJECT_TOO_MANY_SIBLINGS or outcome == OBJECT_TOO_MANY_DOTS
                    else STATUS_BAD_REQUEST)
        if object_sibling_count(made) > siblings_max:
            return STATUS_TOO_MANY_SIBLINGS
        if n > object_bytes_max:
            return STATUS_TOO_LARGE
        self.puts += 1
        return self.keep(address, n, self.nonce, arguments.epoch, &view if have else NULL, owed, result)

    cdef int merge(self, const Address *address, const uint8_t *incoming, size_t n, uint16_t owed, ObjectView *result) except -1:
        """What another replica sent, merged into ours. Not refused for its size or its number of siblings but where no message, or no object,
        could hold it: see `message_bytes_max` in docs/protocol.md. `owed` as in `put`."""
        cdef RecordView view
        cdef size_t made_n = n
        cdef uint8_t *made
        cdef uint64_t mark_nonce = 0
        cdef int which = 2
        cdef int outcome = self.look(address, &view)
        if outcome == OTHER_KEY:
            return STATUS_KEY_COLLISION
        if object_check(incoming, n) != 0:
            return STATUS_BAD_REQUEST
        self.merges += 1
        if outcome != FIND_RECORD:
            made = self.room(n)
            memcpy(made, incoming, n)
            return self.keep(address, n, 0, 0, NULL, owed, result)
        made = self.room(view.object_n + n)
        which = object_merge(view.object, view.object_n, incoming, n, made, self.work_bytes - POSITION_BYTES, &made_n)
        if which < 0:
            return STATUS_CLOCK_FULL if which == OBJECT_CLOCK_FULL else STATUS_TOO_MANY_SIBLINGS
        if which == 0 and made_n > self.merge_bytes_max:
            return STATUS_TOO_LARGE
        if which & 1 and (view.owed == 0 if owed == 0 else (self.owed_by(&view) | owed) == self.owed_by(&view)):
            result.data, result.n, result.hash = view.object, view.object_n, view.hash
            # What stands here may be of a pass whose log write failed; then this node must not vouch for it (!).
            return STATUS_OK if self.engine.room() != ROOM_NONE or self.engine.read_only is None else STATUS_READ_ONLY
        if which == 2:
            memcpy(made, incoming, n)
            made_n = n
        elif which & 1:
            # Nothing new but whom it is kept for.
            made = self.room(view.object_n)
            memcpy(made, view.object, view.object_n)
            made_n = view.object_n
        if view.mark_nonce == self.nonce:
            if epoch_survives_merge(view.object, view.object_n, incoming, n, self.node_id, view.mark_epoch):
                mark_nonce = self.nonce
            else:
                self.epoch_alarms += 1
        return self.keep(address, made_n, mark_nonce, view.mark_epoch, &view, owed, result)

    cdef int count_hint(self, int64_t more) noexcept:
        """So many bytes more, or less, are kept for others. Never less than none: what goes may be from before this process, and not counted
        yet, or have come while handoff counted."""
        self.hint_bytes = max(self.hint_bytes + more, 0)
        return 0

    cdef uint16_t owed_by(self, const RecordView *view) noexcept:
        """The homes that a record is kept for, as slots of the placement in force; all of them if it was kept under another one."""
        return view.owed if not view.owed or view.placement_number == self.placement_number else self.all_homes

    cdef int own(self, const uint8_t *store_key) except -1:
        """This node has become a home: what it keeps there for others is its own from now on. 1, or 0 when it was. StorageError as the
        engine's."""
        cdef RecordView view
        if self.engine.find(store_key, &view) != FIND_RECORD or view.owed == 0:
            return 0
        self.store_again(store_key, &view, 0)
        self.count_hint(-<int64_t>view.n)
        return 1

    cdef int store_again(self, const uint8_t *store_key, const RecordView *view, uint16_t owed) except -1:
        """The same version, for whom it is kept from now on."""
        grow(&self.record, &self.record_bytes, view.n)
        record_write(self.record, view.bucket, view.bucket_n, view.key, view.key_n, view.object, view.object_n,
                     view.mark_nonce, view.mark_epoch, view.hash, owed, self.placement_number if owed else 0)
        return self.engine.store(store_key, self.record, view.n, view.hash)

    cdef int settle_owed(self, const uint8_t *store_key, uint64_t hash, uint16_t confirmed, bint home) except -1:
        """Homes have confirmed that they hold the version of that hash on disk. 1 when our copy, of that very version, is not needed
        any more and gone, else 0: at a `home` it stays, and is its own. StorageError as the engine's."""
        cdef RecordView view
        cdef uint16_t left
        if self.engine.find(store_key, &view) != FIND_RECORD or view.hash != hash or view.owed == 0:
            return 0
        left = self.owed_by(&view) & ~confirmed
        if left == 0 and home:
            self.own(store_key)
            return 0
        if left == 0:
            self.engine.remove(store_key, view.hash)
            self.count_hint(-<int64_t>view.n)
            return 1
        if left != view.owed or view.placement_number != self.placement_number:
            self.store_again(store_key, &view, left)
        return 0

    cdef int forget(self, const uint8_t *store_key, uint64_t hash, uint64_t before_ms, uint32_t entries_max) except -1:
        """Drops the version of that hash, if it is the one held: 1 when it was nothing but deletes and is gone, 2 when its clock is settled, 0
        when nothing has changed. StorageError as the engine's. See `forgetting.py` for when that may be done."""
        cdef RecordView view
        cdef SiblingView sibling
        cdef Address address
        cdef ObjectView kept
        cdef size_t n = 0, offset = 0
        cdef bint live = False, continues
        cdef uint8_t *made
        if self.engine.find(store_key, &view) != FIND_RECORD or view.hash != hash or view.owed:
            return 0
        while object_next(view.object, view.object_n, &offset, &sibling):
            live |= not sibling.flags & SIBLING_TOMBSTONE
        if not live:
            self.engine.remove(store_key, view.hash)
            return 1
        made = self.room(view.object_n)
        if object_settle(view.object, view.object_n, entries_max, before_ms, made, &n) != 0:
            return 0
        address.bucket, address.bucket_bytes = view.bucket, view.bucket_n
        address.key, address.key_bytes = view.key, view.key_n
        memcpy(address.position, store_key, POSITION_BYTES)
        memcpy(address.store_key, store_key, 24)
        # A mark says that every dot of its epoch up to the clock's counter is ours: without the entry it says nothing.
        continues = object_counter(made, n, self.node_id, view.mark_epoch) > 0
        if self.keep(&address, n, view.mark_nonce if continues else 0, view.mark_epoch if continues else 0, &view, 0, &kept) != STATUS_OK:
            return 0
        return 2

    cdef int keep(self, const Address *address, size_t n, uint64_t mark_nonce, uint64_t mark_epoch, const RecordView *old,
                  uint16_t owed, ObjectView *result) except -1:
        """Stores the object that stands in `room` in place of `old` (NULL: there was none); `result` points at it there. STATUS_OK, or
        STATUS_READ_ONLY and nothing changed. What a record was kept for it stays kept for, unless this node is a home (`owed` 0)."""
        cdef uint8_t *made = self.work + POSITION_BYTES
        cdef uint64_t old_hash = old.hash if old != NULL else 0
        cdef int64_t old_hint_bytes = <int64_t>old.n if old != NULL and old.owed else 0
        if owed and old != NULL:
            owed = owed | self.owed_by(old) if old.owed else self.all_homes
        cdef size_t size = record_bytes(address.bucket_bytes, address.key_bytes, n)
        memcpy(self.work, address.position, POSITION_BYTES)
        cdef uint64_t hash = entry_hash_at(self.work, POSITION_BYTES + n)
        grow(&self.record, &self.record_bytes, size)
        record_write(self.record, address.bucket, address.bucket_bytes, address.key, address.key_bytes, made, n,
                     mark_nonce, mark_epoch, hash, owed, self.placement_number if owed else 0)
        try:
            self.engine.store(address.store_key, self.record, size, old_hash)
        except StorageError:
            return STATUS_READ_ONLY
        self.stored += 1
        if owed or old_hint_bytes:
            self.count_hint((<int64_t>size if owed else 0) - old_hint_bytes)
        self.hints_kept += owed != 0
        result.data, result.n, result.hash = made, n, hash
        return STATUS_OK
