"""Store keys and records: the one form in which an object lies in the log, in the write buffer and in LMDB.

A store key has 24 bytes: the 16 of the key's position on the ring, then a keyed hash of bucket and key, so that a
partition is a range and no client can choose keys that fall together. Different keys under one store key are told
apart by the full bucket and key, which stand in the record.

A record (docs/storage.md has it byte by byte) holds the object as the replicas exchange it, and before it what is this
node's own: the checksum, the mark of the epoch rule, the homes that a hint is still owed to, and the entry's hash in the
Merkle tree.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from dynamo_fast.core.bytes cimport load_u16, load_u32, load_u64, store_u16, store_u32, store_u64
from dynamo_fast.core.checksum cimport crc32c
from dynamo_fast.core.context cimport siphash

from typing import NamedTuple

cdef enum:
    RECORD_FORMAT_NUMBER = 1


class RecordParts(NamedTuple):
    """A record taken apart in Python."""

    bucket: bytes
    key: bytes
    packed: bytes
    mark_nonce: int
    mark_epoch: int
    hash: int
    owed: int
    placement_number: int


cdef size_t record_bytes(size_t bucket_n, size_t key_n, size_t object_n) noexcept nogil:
    return RECORD_HEADER_BYTES + bucket_n + key_n + object_n


cdef void record_write(uint8_t *out, const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n,
                       const uint8_t *packed, size_t packed_n, uint64_t mark_nonce, uint64_t mark_epoch,
                       uint64_t hash, uint16_t owed, uint16_t placement_number) noexcept nogil:
    cdef size_t n = record_bytes(bucket_n, key_n, packed_n)
    out[4] = RECORD_FORMAT_NUMBER
    out[5] = <uint8_t>bucket_n
    store_u16(out + 6, <uint16_t>key_n)
    store_u32(out + 8, <uint32_t>packed_n)
    store_u16(out + 12, owed)
    store_u16(out + 14, placement_number)
    store_u64(out + 16, mark_nonce)
    store_u64(out + 24, mark_epoch)
    store_u64(out + RECORD_HASH_OFFSET, hash)
    memcpy(out + RECORD_HEADER_BYTES, bucket, bucket_n)
    memcpy(out + RECORD_HEADER_BYTES + bucket_n, key, key_n)
    memcpy(out + RECORD_HEADER_BYTES + bucket_n + key_n, packed, packed_n)
    store_u32(out, crc32c(0, out + 4, n - 4))


cdef int record_view(const uint8_t *data, size_t n, RecordView *view) noexcept nogil:
    if n < RECORD_HEADER_BYTES:
        return RECORD_SHORT
    if data[4] != RECORD_FORMAT_NUMBER:
        return RECORD_FORMAT
    view.bucket_n = data[5]
    view.key_n = load_u16(data + 6)
    view.object_n = load_u32(data + 8)
    if view.bucket_n > BUCKET_BYTES_MAX or view.key_n == 0 or view.key_n > KEY_BYTES_MAX:
        return RECORD_LENGTHS
    if record_bytes(view.bucket_n, view.key_n, view.object_n) != n:
        return RECORD_LENGTHS
    view.data = data
    view.n = n
    view.bucket = data + RECORD_HEADER_BYTES
    view.key = view.bucket + view.bucket_n
    view.object = view.key + view.key_n
    view.mark_nonce = load_u64(data + 16)
    view.mark_epoch = load_u64(data + 24)
    view.hash = load_u64(data + RECORD_HASH_OFFSET)
    view.owed = load_u16(data + 12)
    view.placement_number = load_u16(data + 14)
    return 0


cdef int record_check(const uint8_t *data, size_t n, RecordView *view) noexcept nogil:
    cdef int code = record_view(data, n, view)
    if code == 0 and load_u32(data) != crc32c(0, data + 4, n - 4):
        return RECORD_CHECKSUM
    return code


cdef const char *record_error(int code) noexcept nogil:
    if code == RECORD_SHORT:
        return b"shorter than a record's header"
    if code == RECORD_FORMAT:
        return b"not of a known record format"
    if code == RECORD_LENGTHS:
        return b"lengths that do not add up"
    if code == RECORD_CHECKSUM:
        return b"a wrong checksum"
    return b"no error"


cdef void store_key_write(const uint8_t *mac_key16, const uint8_t *position, const uint8_t *bucket, size_t bucket_n,
                          const uint8_t *key, size_t key_n, uint8_t *out) noexcept nogil:
    cdef uint8_t text[1 + BUCKET_BYTES_MAX + KEY_BYTES_MAX]
    text[0] = <uint8_t>bucket_n
    memcpy(text + 1, bucket, bucket_n)
    memcpy(text + 1 + bucket_n, key, key_n)
    cdef uint64_t mac = siphash(mac_key16, text, 1 + bucket_n + key_n)
    cdef int i
    memcpy(out, position, POSITION_BYTES)
    for i in range(8):
        out[POSITION_BYTES + i] = <uint8_t>(mac >> (56 - 8 * i))


cdef int check_name(bytes key, bytes bucket) except -1:
    if not 1 <= PyBytes_GET_SIZE(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}")
    if PyBytes_GET_SIZE(bucket) > BUCKET_BYTES_MAX:
        raise ValueError(f"a bucket's name has at most {BUCKET_BYTES_MAX} bytes, not {len(bucket)}")
    return 0


cdef inline const uint8_t *octets(bytes data) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(data)


def encode_store_key(bytes mac_key not None, bytes position not None, bytes key not None, bytes bucket not None = b"") -> bytes:
    """The 24 bytes under which a key is stored: its 16-byte position, then SipHash-2-4 of (bucket, key) under the cluster's key."""
    if PyBytes_GET_SIZE(mac_key) != 16 or PyBytes_GET_SIZE(position) != POSITION_BYTES:
        raise ValueError("the cluster's key and a position have 16 bytes each")
    check_name(key, bucket)
    out = PyBytes_FromStringAndSize(NULL, STORE_KEY_BYTES)
    store_key_write(octets(mac_key), octets(position), octets(bucket), PyBytes_GET_SIZE(bucket), octets(key),
                    PyBytes_GET_SIZE(key), <uint8_t *>PyBytes_AS_STRING(out))
    return out


def encode_record(bytes key not None, bytes packed not None, bytes bucket not None = b"", *, mark_nonce: int = 0,
                  mark_epoch: int = 0, hash: int = 0, owed: int = 0, placement_number: int = 0) -> bytes:
    """A record around a packed object; `hash` is `core.merkle.entry_hash` of the key's position and the object.

    `owed` and `placement_number`, 16 bits each, are those of a hint.
    """
    check_name(key, bucket)
    if PyBytes_GET_SIZE(packed) >> 32:
        raise ValueError("an object has less than 4 GiB")
    cdef uint64_t nonce = mark_nonce, epoch = mark_epoch, entry_hash = hash
    cdef uint16_t slots = owed, number = placement_number
    out = PyBytes_FromStringAndSize(NULL, record_bytes(PyBytes_GET_SIZE(bucket), PyBytes_GET_SIZE(key), PyBytes_GET_SIZE(packed)))
    record_write(<uint8_t *>PyBytes_AS_STRING(out), octets(bucket), PyBytes_GET_SIZE(bucket), octets(key),
                 PyBytes_GET_SIZE(key), octets(packed), PyBytes_GET_SIZE(packed), nonce, epoch, entry_hash, slots, number)
    return out


def decode_record(bytes record not None) -> RecordParts:
    """The parts of a record; ValueError, saying what is wrong, for bytes that are not one as it was written."""
    cdef RecordView view
    cdef int code = record_check(octets(record), PyBytes_GET_SIZE(record), &view)
    if code < 0:
        raise ValueError(f"not a record: {record_error(code).decode()}")
    return RecordParts(view.bucket[:view.bucket_n], view.key[:view.key_n], view.object[:view.object_n], view.mark_nonce,
                       view.mark_epoch, view.hash, view.owed, view.placement_number)


def is_record(bytes record not None) -> bool:
    """Whether these bytes are a record as it was written."""
    cdef RecordView view
    return record_check(octets(record), PyBytes_GET_SIZE(record), &view) == 0


def record_hash(bytes record not None) -> int:
    """The entry's hash in the Merkle tree, of a record that an engine gave; the record is not checked again."""
    cdef RecordView view
    if record_view(octets(record), PyBytes_GET_SIZE(record), &view) != 0:
        raise ValueError("not a record")
    return view.hash
