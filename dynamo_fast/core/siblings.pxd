"""Objects for the other Cython modules; _ext/object.h, siblings.h and put.h have the layout and every contract in full."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "object.h" nogil:
    enum:
        OBJECT_HEADER_BYTES  # 8
        SIBLING_HEADER_BYTES  # 40
        SIBLING_TOMBSTONE  # flags of a sibling
        SIBLING_LAST_WRITE_WINS
        OBJECT_OK
        OBJECT_CLOCK_FULL
        OBJECT_TOO_MANY_SIBLINGS
        OBJECT_TOO_MANY_DOTS
        OBJECT_NO_ROOM
    ctypedef struct SiblingView:
        const uint8_t *node
        uint64_t epoch
        uint64_t counter
        uint64_t timestamp_ms
        const uint8_t *request_id
        const uint8_t *value
        uint32_t value_n
        uint8_t flags
    uint32_t object_clock_count(const uint8_t *packed)
    uint32_t object_sibling_count(const uint8_t *packed)
    uint32_t object_cloud_count(const uint8_t *packed)
    const uint8_t *object_clock(const uint8_t *packed)

cdef extern from "put.h" nogil:
    enum:
        PUT_CLOCK_MAX  # 1024
        PUT_SIBLINGS_MAX  # 1024
        PUT_CLOUD_MAX  # 1024
    ctypedef struct PutArguments:
        const uint8_t *local
        size_t local_n
        const uint8_t *context
        uint32_t context_count
        const uint8_t *dot
        bint overwrite
        const uint8_t *node
        uint64_t epoch
        uint64_t timestamp_ms
        const uint8_t *request_id
        bint tombstone
        bint last_write_wins
        const uint8_t *value
        size_t value_n


# 0 when these bytes, from anybody, are a valid object in canonical form, else a code below 0.
cdef int object_check(const uint8_t *packed, size_t n) noexcept nogil

# What a code below 0 says, without a full stop.
cdef const char *object_error(int code) noexcept nogil

# 1: the result is a's bytes, 2: b's, 3: both are equal; 0: written to out; below 0: a code.
cdef int object_merge(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, uint8_t *out, size_t out_max,
                      size_t *out_n) noexcept nogil

# Room that object_put surely needs, and the put itself: 0 or a code below 0.
cdef size_t object_put_bound(const PutArguments *arguments) noexcept nogil
cdef int object_put(const PutArguments *arguments, uint8_t *out, size_t out_max, size_t *out_n) noexcept nogil

# The actor's counter in the clock, 0 if absent; n = 0 is an absent object, here and below.
cdef uint64_t object_counter(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch) noexcept nogil

# 1 when clock or cloud covers this event: node[16], epoch, counter.
cdef bint object_covers(const uint8_t *packed, size_t n, const uint8_t *dot) noexcept nogil

# Up to which counter clock and cloud together cover all of the actor's events.
cdef uint64_t object_reach(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch) noexcept nogil

# 1 when a sibling was made by this request (16 bytes, not all zero).
cdef int object_has_request(const uint8_t *packed, size_t n, const uint8_t *request_id) noexcept nogil

# The next sibling; *offset starts at 0; 1 = got one, 0 = end.
cdef int object_next(const uint8_t *packed, size_t n, size_t *offset, SiblingView *view) noexcept nogil

# Drops clock entries older than before_ms until entries_max are left, none that a present sibling needs; n bytes of out suffice.
# 1: nothing to drop, out is untouched; 0: written.
cdef int object_settle(const uint8_t *packed, size_t n, uint32_t entries_max, uint64_t before_ms, uint8_t *out, size_t *out_n) noexcept nogil

# Which epoch a put's dot gets; fresh_epoch is drawn at random for this very call.
cdef uint64_t epoch_choose(const uint8_t *local, size_t local_n, uint64_t mark_nonce, uint64_t mark_epoch,
                           uint64_t process_nonce, const uint8_t *context, uint32_t context_count, const uint8_t *dot,
                           const uint8_t *node, uint64_t fresh_epoch, int *alarm) noexcept nogil

# 1 when the mark may stay after incoming is merged into local; 0: clear it (nonce 0) and raise an alarm.
cdef int epoch_survives_merge(const uint8_t *local, size_t local_n, const uint8_t *incoming, size_t incoming_n,
                              const uint8_t *node, uint64_t mark_epoch) noexcept nogil
