"""Looking ahead: what one receive has brought is addressed all at once, before its frames are handled one by one.

Under load a receive brings dozens of requests, and handling one of them alone is mostly waiting for memory: for the place in the
write buffer's table, for the record behind it, for the leaf of the Merkle tree, for the put's id among those of late. So before the first frame is handled, the keys of up
to LOOKAHEAD_MAX frames are hashed side by side (MD5 takes sixteen in the time of two) and the processor is told to fetch what they
will touch; by the time their turn comes it is there. When these have been handled, the next so many are looked at.

Nothing depends on it: a frame that was not foreseen is addressed when it is handled. Bytes are looked at before their checksum has
been, so every parser here is one that believes nothing; a frame that turns out damaged ends the connection before its address is used.

INVARIANT: an address is handed out only for the very pointer it was worked out from, in order, within the same receive. Whoever
receives says so with `foresee` before each receive is handled, which forgets the one before.
"""

from libc.string cimport memcpy

from dynamo_fast.core.digest cimport key_position, md5_several
from dynamo_fast.core.put_ids cimport retry_id_of
from dynamo_fast.storage.schema cimport store_key_write
from dynamo_fast.wire.data_messages cimport (
    MESSAGE_GET,
    MESSAGE_PUT,
    MESSAGE_READ,
    MESSAGE_REPLICATE,
    GetMessage,
    PutMessage,
    ReadMessage,
    ReplicateMessage,
    parse_get,
    parse_put,
    parse_read,
    parse_replicate,
)
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES

from dynamo_fast.core.bytes cimport load_u32


cdef bint key_of(uint8_t type, const uint8_t *body, size_t n, Address *address, const uint8_t **put_id) noexcept nogil:
    """The bucket and key that a frame is about, and the id of a put; false for a frame about no key, or one that cannot be read."""
    cdef PutMessage put
    cdef GetMessage get
    cdef ReplicateMessage replicate
    cdef ReadMessage read
    put_id[0] = NULL
    if type == MESSAGE_REPLICATE and parse_replicate(body, n, &replicate) == 0:
        address.bucket, address.bucket_bytes = replicate.bucket, replicate.bucket_bytes
        address.key, address.key_bytes = replicate.key, replicate.key_bytes
    elif type == MESSAGE_PUT and parse_put(body, n, &put) == 0:
        address.bucket, address.bucket_bytes = put.bucket, put.bucket_bytes
        address.key, address.key_bytes = put.key, put.key_bytes
        put_id[0] = put.put_id
    elif type == MESSAGE_READ and parse_read(body, n, &read) == 0:
        address.bucket, address.bucket_bytes = read.bucket, read.bucket_bytes
        address.key, address.key_bytes = read.key, read.key_bytes
    elif type == MESSAGE_GET and parse_get(body, n, &get) == 0:
        address.bucket, address.bucket_bytes = get.bucket, get.bucket_bytes
        address.key, address.key_bytes = get.key, get.key_bytes
    else:
        return False
    return True


cdef class Lookahead:
    """Lookahead(replica)."""

    def __cinit__(self, Replica replica not None):
        self.replica = replica

    cdef int foresee(self, const uint8_t *data, size_t n) noexcept:
        """These n bytes are handled next, from where they stand; what was foreseen before is forgotten."""
        self.next, self.left = data, n
        return self.look()

    cdef int look(self) noexcept:
        """Addresses the next frames that stand whole."""
        cdef const uint8_t *data = self.next
        cdef size_t n = self.left
        cdef const uint8_t *keys[LOOKAHEAD_MAX]
        cdef size_t lengths[LOOKAHEAD_MAX]
        cdef const uint8_t *put_ids[LOOKAHEAD_MAX]
        cdef uint8_t positions[16 * LOOKAHEAD_MAX]
        cdef uint8_t retry_id[16]
        cdef size_t at = 0, body_bytes
        cdef int i, count = 0
        cdef Address *address
        self.count = self.used = 0
        while count < LOOKAHEAD_MAX and n - at > FRAME_HEADER_BYTES:
            body_bytes = load_u32(data + at)
            if body_bytes > n - at - FRAME_HEADER_BYTES:
                break
            if key_of(data[at + 4], data + at + FRAME_HEADER_BYTES, body_bytes, &self.addresses[count], &put_ids[count]):
                keys[count], lengths[count] = self.addresses[count].key, self.addresses[count].key_bytes
                count += 1
            at += FRAME_HEADER_BYTES + body_bytes
        # A frame that is not whole ends it: nothing behind that one is handled from here.
        self.left = n - at if count == LOOKAHEAD_MAX else 0
        self.next = data + at
        if count < 2:
            return 0
        md5_several(keys, lengths, count, positions)
        for i in range(count):
            address = &self.addresses[i]
            if address.bucket_bytes:
                key_position(address.bucket, address.bucket_bytes, address.key, address.key_bytes, address.position)
            else:
                memcpy(address.position, positions + 16 * i, 16)
            store_key_write(self.replica.mac_key, address.position, address.bucket, address.bucket_bytes, address.key,
                            address.key_bytes, address.store_key)
            self.replica.engine.fetch_ahead(address.store_key, 0)
            if put_ids[i] != NULL and self.put_ids is not None:
                retry_id_of(put_ids[i], address.position, retry_id)
                self.put_ids.fetch_ahead(retry_id)
        # One step of the chain at a time for all, so that their waits overlap.
        for i in range(count):
            self.replica.engine.fetch_ahead(self.addresses[i].store_key, 1)
        for i in range(count):
            self.replica.engine.fetch_ahead(self.addresses[i].store_key, 2)
        self.count = count
        return 0

    cdef int locate(self, const uint8_t *bucket, size_t bucket_bytes, const uint8_t *key, size_t key_bytes, Address *address) noexcept:
        """As Replica.locate, which it calls unless this key is the next one foreseen."""
        cdef Address *next
        if self.left and key >= self.next and key < self.next + self.left:
            self.look()
        # Frames refused before they were addressed are passed over.
        while self.used < self.count and self.addresses[self.used].key < key:
            self.used += 1
        next = &self.addresses[self.used]
        if self.used < self.count and next.key == key and next.key_bytes == key_bytes and next.bucket_bytes == bucket_bytes:
            address[0] = next[0]
            self.used += 1
            return 0
        return self.replica.locate(bucket, bucket_bytes, key, key_bytes, address)
