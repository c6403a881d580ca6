"""Bodies of data messages for Cython: the structs and constants of _ext/messages.h, and its functions by cdef call."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "messages.h" nogil:
    enum:
        MESSAGE_HELLO
        MESSAGE_HELLO_REPLY
        MESSAGE_PUT
        MESSAGE_PUT_REPLY
        MESSAGE_GET
        MESSAGE_GET_REPLY
        MESSAGE_REPLICATE
        MESSAGE_REPLICATE_REPLY
        MESSAGE_READ
        MESSAGE_READ_REPLY
        MESSAGE_PING
        MESSAGE_PONG
        MESSAGE_CONTROL
        MESSAGE_CONTROL_REPLY
    enum:
        STATUS_OK
        STATUS_NOT_FOUND
        STATUS_BAD_REQUEST
        STATUS_TOO_LARGE
        STATUS_BAD_CONTEXT
        STATUS_OVERLOAD
        STATUS_TOO_MANY_SIBLINGS
        STATUS_NOT_READY
        STATUS_NO_SUCH_BUCKET
        STATUS_READ_ONLY
        STATUS_STALE_PLACEMENT
        STATUS_UNSUPPORTED_VERSION
        STATUS_CLOCK_FULL
        STATUS_NOT_ENOUGH_REPLICAS
        STATUS_KEY_COLLISION
        STATUS_WRONG_CLUSTER
        STATUS_QUORUM_FAILED
        STATUS_DEADLINE
    enum:
        MESSAGE_BUCKET_BYTES_MAX
        MESSAGE_KEY_BYTES_MAX
        MESSAGE_PUT_ID_BYTES
        MESSAGE_DW_DEFAULT
    enum:
        PUT_STRICT
        PUT_STRICT_GIVEN
        PUT_OVERWRITE
        PUT_TOMBSTONE
        GET_STRICT
        GET_STRICT_GIVEN
        REPLICATE_ACK_DURABLE
        REPLICATE_NO_REPLY
        REPLICATE_HINT
        REPLICATE_FOR_ALL
        REPLICATE_SLOT_SHIFT
        SIBLING_IS_TOMBSTONE
    enum:
        MESSAGE_SHORT
        MESSAGE_LENGTHS
        MESSAGE_EMPTY_KEY
        MESSAGE_TOO_LARGE
        MESSAGE_RESERVED
        MESSAGE_TOMBSTONE_VALUE
    ctypedef struct PutMessage:
        uint8_t w
        uint8_t dw
        uint8_t flags
        uint8_t bucket_bytes
        uint16_t key_bytes
        uint16_t context_bytes
        uint32_t value_bytes
        uint32_t deadline_ms
        const uint8_t *put_id
        const uint8_t *bucket
        const uint8_t *key
        const uint8_t *context
        const uint8_t *value
    ctypedef struct GetMessage:
        uint8_t r
        uint8_t flags
        uint8_t bucket_bytes
        uint16_t key_bytes
        uint16_t session_context_bytes
        uint32_t deadline_ms
        const uint8_t *bucket
        const uint8_t *key
        const uint8_t *session_context
    ctypedef struct ReplicateMessage:
        uint64_t placement
        uint8_t flags
        uint8_t bucket_bytes
        uint16_t key_bytes
        uint32_t object_bytes
        const uint8_t *bucket
        const uint8_t *key
        const uint8_t *object
    ctypedef struct ReadMessage:
        uint64_t placement
        uint64_t known_hash
        uint8_t flags
        uint8_t bucket_bytes
        uint16_t key_bytes
        const uint8_t *bucket
        const uint8_t *key
    ctypedef struct GetReplyMessage:
        uint16_t context_bytes
        uint16_t sibling_count
        const uint8_t *context
        const uint8_t *siblings
    ctypedef struct GetReplySibling:
        uint32_t value_bytes
        uint8_t flags
        uint64_t timestamp_ms
        const uint8_t *value

# Parsers return 0 or a negative MESSAGE_ code; the structs then point into body.
cdef int parse_put(const uint8_t *body, size_t n, PutMessage *out) noexcept nogil
cdef int parse_get(const uint8_t *body, size_t n, GetMessage *out) noexcept nogil
cdef int parse_replicate(const uint8_t *body, size_t n, ReplicateMessage *out) noexcept nogil
cdef int parse_read(const uint8_t *body, size_t n, ReadMessage *out) noexcept nogil
cdef int parse_get_reply(const uint8_t *body, size_t n, GetReplyMessage *out) noexcept nogil
cdef const char *message_error(int code) noexcept nogil         # a sentence for such a code
cdef uint16_t message_status(int code) noexcept nogil           # STATUS_ to answer it with

# Writers fill exactly *_body_bytes.
cdef size_t put_body_bytes(const PutMessage *message) noexcept nogil
cdef size_t get_body_bytes(const GetMessage *message) noexcept nogil
cdef size_t replicate_body_bytes(const ReplicateMessage *message) noexcept nogil
cdef size_t read_body_bytes(const ReadMessage *message) noexcept nogil
cdef size_t get_reply_body_bytes(size_t context_bytes, size_t sibling_count, size_t values_bytes) noexcept nogil
cdef void write_put(uint8_t *out, const PutMessage *message) noexcept nogil
cdef void write_get(uint8_t *out, const GetMessage *message) noexcept nogil
cdef void write_replicate(uint8_t *out, const ReplicateMessage *message) noexcept nogil
cdef void write_read(uint8_t *out, const ReadMessage *message) noexcept nogil
# Returns where context_bytes of context go; right behind them starts the first sibling.
cdef uint8_t *write_get_reply(uint8_t *out, uint16_t context_bytes, uint16_t sibling_count) noexcept nogil
# Returns where the next sibling starts.
cdef uint8_t *write_get_reply_sibling(uint8_t *out, const GetReplySibling *sibling) noexcept nogil
# Reads one sibling of a parsed reply and returns where the next one stands.
cdef const uint8_t *get_reply_sibling(const uint8_t *at, GetReplySibling *out) noexcept nogil
