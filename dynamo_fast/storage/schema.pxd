"""The bytes of store keys and records, for the other Cython modules."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    POSITION_BYTES = 16
    STORE_KEY_BYTES = 24        # position[16], then SipHash-2-4 of u8 bucket_n || bucket || key, big-endian
    RECORD_HEADER_BYTES = 40
    RECORD_HASH_OFFSET = 32     # of the entry's hash in the header
    BUCKET_BYTES_MAX = 64
    KEY_BYTES_MAX = 4096

cdef enum:                      # what record_check says is wrong; record_error has the words
    RECORD_SHORT = -1
    RECORD_FORMAT = -2
    RECORD_LENGTHS = -3
    RECORD_CHECKSUM = -4


# A record taken apart. Every pointer points into data and lives as long as it.
cdef struct RecordView:
    const uint8_t *data
    size_t n
    const uint8_t *bucket
    uint8_t bucket_n
    const uint8_t *key
    uint16_t key_n
    const uint8_t *object
    uint32_t object_n
    uint64_t mark_nonce         # start nonce of the process that last coordinated a put of this key here, 0 for none
    uint64_t mark_epoch         # the epoch in which it did
    uint64_t hash               # XXH3_64 of position || object: the entry's hash in the Merkle tree
    uint16_t owed               # bit i: the home in slot i of the preference list has not yet confirmed this version; of hints only
    uint16_t placement_number   # low bits of the number of the placement that the slots of `owed` count in


# Bytes of a record with these parts.
cdef size_t record_bytes(size_t bucket_n, size_t key_n, size_t object_n) noexcept nogil

# Writes record_bytes(...) bytes to out. The parts must not overlap out.
cdef void record_write(uint8_t *out, const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n,
                       const uint8_t *packed, size_t packed_n, uint64_t mark_nonce, uint64_t mark_epoch,
                       uint64_t hash, uint16_t owed, uint16_t placement_number) noexcept nogil

# Takes a record apart by its lengths alone: 0, or a code below 0 when they do not add up to n.
cdef int record_view(const uint8_t *data, size_t n, RecordView *view) noexcept nogil

# record_view and the checksum: 0 when these bytes, from a disk, are a record as it was written.
cdef int record_check(const uint8_t *data, size_t n, RecordView *view) noexcept nogil

# What a code below 0 says.
cdef const char *record_error(int code) noexcept nogil

# Writes the 24-byte store key of (bucket, key) to out; bucket_n <= 64, key_n <= 4096.
cdef void store_key_write(const uint8_t *mac_key16, const uint8_t *position, const uint8_t *bucket, size_t bucket_n,
                          const uint8_t *key, size_t key_n, uint8_t *out) noexcept nogil
