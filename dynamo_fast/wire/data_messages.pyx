"""Bodies of the messages that carry keys and objects: PUT, GET, REPLICATE, READ and the reply to GET.

The work is done by _ext/messages.c. Cython callers use the cdef functions of the .pxd on bytes where they stand; Python
callers, which are the client, the simulator and the tests, use encode_x and decode_x on whole bodies. docs/protocol.md
has the layouts byte by byte.

Encoders raise ValueError for what the protocol cannot say; decoders raise ProtocolError for what it cannot mean.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from typing import NamedTuple

from dynamo_fast.wire.errors import ProtocolError

cdef extern from "messages.h" nogil:
    int messages_parse_put(const uint8_t *body, size_t n, PutMessage *out)
    int messages_parse_get(const uint8_t *body, size_t n, GetMessage *out)
    int messages_parse_replicate(const uint8_t *body, size_t n, ReplicateMessage *out)
    int messages_parse_read(const uint8_t *body, size_t n, ReadMessage *out)
    int messages_parse_get_reply(const uint8_t *body, size_t n, GetReplyMessage *out)
    const char *messages_error(int code)
    size_t messages_put_body_bytes(const PutMessage *message)
    size_t messages_get_body_bytes(const GetMessage *message)
    size_t messages_replicate_body_bytes(const ReplicateMessage *message)
    size_t messages_read_body_bytes(const ReadMessage *message)
    size_t messages_get_reply_body_bytes(size_t context_bytes, size_t sibling_count, size_t values_bytes)
    void messages_write_put(uint8_t *out, const PutMessage *message)
    void messages_write_get(uint8_t *out, const GetMessage *message)
    void messages_write_replicate(uint8_t *out, const ReplicateMessage *message)
    void messages_write_read(uint8_t *out, const ReadMessage *message)
    uint8_t *messages_write_get_reply(uint8_t *out, uint16_t context_bytes, uint16_t sibling_count)
    uint8_t *messages_write_get_reply_sibling(uint8_t *out, const GetReplySibling *sibling)
    const uint8_t *messages_get_reply_sibling(const uint8_t *at, GetReplySibling *out)


cdef int parse_put(const uint8_t *body, size_t n, PutMessage *out) noexcept nogil:
    return messages_parse_put(body, n, out)


cdef int parse_get(const uint8_t *body, size_t n, GetMessage *out) noexcept nogil:
    return messages_parse_get(body, n, out)


cdef int parse_replicate(const uint8_t *body, size_t n, ReplicateMessage *out) noexcept nogil:
    return messages_parse_replicate(body, n, out)


cdef int parse_read(const uint8_t *body, size_t n, ReadMessage *out) noexcept nogil:
    return messages_parse_read(body, n, out)


cdef int parse_get_reply(const uint8_t *body, size_t n, GetReplyMessage *out) noexcept nogil:
    return messages_parse_get_reply(body, n, out)


cdef const char *message_error(int code) noexcept nogil:
    return messages_error(code)


cdef uint16_t message_status(int code) noexcept nogil:
    return STATUS_TOO_LARGE if code == MESSAGE_TOO_LARGE else STATUS_BAD_REQUEST


cdef size_t put_body_bytes(const PutMessage *message) noexcept nogil:
    return messages_put_body_bytes(message)


cdef size_t get_body_bytes(const GetMessage *message) noexcept nogil:
    return messages_get_body_bytes(message)


cdef size_t replicate_body_bytes(const ReplicateMessage *message) noexcept nogil:
    return messages_replicate_body_bytes(message)


cdef size_t read_body_bytes(const ReadMessage *message) noexcept nogil:
    return messages_read_body_bytes(message)


cdef size_t get_reply_body_bytes(size_t context_bytes, size_t sibling_count, size_t values_bytes) noexcept nogil:
    return messages_get_reply_body_bytes(context_bytes, sibling_count, values_bytes)


cdef void write_put(uint8_t *out, const PutMessage *message) noexcept nogil:
    messages_write_put(out, message)


cdef void write_get(uint8_t *out, const GetMessage *message) noexcept nogil:
    messages_write_get(out, message)


cdef void write_replicate(uint8_t *out, const ReplicateMessage *message) noexcept nogil:
    messages_write_replicate(out, message)


cdef void write_read(uint8_t *out, const ReadMessage *message) noexcept nogil:
    messages_write_read(out, message)


cdef uint8_t *write_get_reply(uint8_t *out, uint16_t context_bytes, uint16_t sibling_count) noexcept nogil:
    return messages_write_get_reply(out, context_bytes, sibling_count)


cdef uint8_t *write_get_reply_sibling(uint8_t *out, const GetReplySibling *sibling) noexcept nogil:
    return messages_write_get_reply_sibling(out, sibling)


cdef const uint8_t *get_reply_sibling(const uint8_t *at, GetReplySibling *out) noexcept nogil:
    return messages_get_reply_sibling(at, out)


class Put(NamedTuple):
    """A PUT's body. `strict` None and the numbers' defaults stand for the bucket's setting."""

    key: bytes
    value: bytes
    bucket: bytes
    context: bytes
    put_id: bytes
    w: int
    dw: int | None
    strict: bool | None
    overwrite: bool
    tombstone: bool
    deadline_ms: int


class Get(NamedTuple):
    """A GET's body."""

    key: bytes
    bucket: bytes
    session_context: bytes
    r: int
    strict: bool | None
    deadline_ms: int


class Replicate(NamedTuple):
    """A REPLICATE's body."""

    placement: int
    key: bytes
    bucket: bytes
    object: bytes
    ack_durable: bool
    no_reply: bool
    hint_slot: int | None
    hint_for_all: bool


class Read(NamedTuple):
    """A READ's body."""

    placement: int
    key: bytes
    bucket: bytes
    known_hash: int


cdef inline const uint8_t *pointer(bytes data):
    return <const uint8_t *>PyBytes_AS_STRING(data)


cdef inline bytes copied(const uint8_t *data, size_t n):
    return PyBytes_FromStringAndSize(<const char *>data, n)


cdef int check_sizes(bytes key, bytes bucket, bytes context, size_t value_bytes) except -1:
    if not 1 <= len(key) <= MESSAGE_KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {MESSAGE_KEY_BYTES_MAX} bytes, not {len(key)}")
    if len(bucket) > MESSAGE_BUCKET_BYTES_MAX:
        raise ValueError(f"a bucket name has at most {MESSAGE_BUCKET_BYTES_MAX} bytes, not {len(bucket)}")
    if len(context) > 0xFFFF:
        raise ValueError(f"a context has at most 65535 bytes, not {len(context)}")
    if value_bytes > 0xFFFFFFFF:
        raise ValueError(f"a value has at most 2**32 - 1 bytes, not {value_bytes}")
    return 0


cdef int check_parsed(int code) except -1:
    if code:
        raise ProtocolError(messages_error(code).decode())
    return 0


cdef inline uint8_t strict_flags(object strict):
    """PUT and GET use the same two bits."""
    return 0 if strict is None else PUT_STRICT_GIVEN | PUT_STRICT if strict else PUT_STRICT_GIVEN


cdef inline object strict_of(uint8_t flags):
    return bool(flags & PUT_STRICT) if flags & PUT_STRICT_GIVEN else None


def encode_put(bytes key not None, bytes value not None=b"", *, bytes put_id not None, bytes bucket not None=b"",
               bytes context not None=b"", uint8_t w=0, object dw=None, object strict=None, bint overwrite=False,
               bint tombstone=False, uint32_t deadline_ms=0) -> bytes:
    """A PUT's body. w=0, dw=None, strict=None and deadline_ms=0 leave the choice to the bucket.

    Raises ValueError for sizes out of bounds or a tombstone with a value, OverflowError for numbers that do not fit.
    """
    cdef PutMessage message
    check_sizes(key, bucket, context, PyBytes_GET_SIZE(value))
    if len(put_id) != MESSAGE_PUT_ID_BYTES:
        raise ValueError(f"a put id has {MESSAGE_PUT_ID_BYTES} bytes, not {len(put_id)}")
    if tombstone and value:
        raise ValueError("a tombstone carries no value")
    message.w = w
    message.dw = MESSAGE_DW_DEFAULT if dw is None else <uint8_t?>dw
    message.flags = strict_flags(strict) | (PUT_OVERWRITE if overwrite else 0) | (PUT_TOMBSTONE if tombstone else 0)
    message.bucket_bytes, message.bucket = <uint8_t>PyBytes_GET_SIZE(bucket), pointer(bucket)
    message.key_bytes, message.key = <uint16_t>PyBytes_GET_SIZE(key), pointer(key)
    message.context_bytes, message.context = <uint16_t>PyBytes_GET_SIZE(context), pointer(context)
    message.value_bytes, message.value = <uint32_t>PyBytes_GET_SIZE(value), pointer(value)
    message.deadline_ms = deadline_ms
    message.put_id = pointer(put_id)
    body = PyBytes_FromStringAndSize(NULL, messages_put_body_bytes(&message))
    messages_write_put(<uint8_t *>PyBytes_AS_STRING(body), &message)
    return body


def decode_put(bytes body not None) -> Put:
    """Raises ProtocolError."""
    cdef PutMessage message
    check_parsed(messages_parse_put(pointer(body), PyBytes_GET_SIZE(body), &message))
    return Put(
        key=copied(message.key, message.key_bytes), value=copied(message.value, message.value_bytes),
        bucket=copied(message.bucket, message.bucket_bytes), context=copied(message.context, message.context_bytes),
        put_id=copied(message.put_id, MESSAGE_PUT_ID_BYTES), w=message.w,
        dw=None if message.dw == MESSAGE_DW_DEFAULT else message.dw, strict=strict_of(message.flags),
        overwrite=bool(message.flags & PUT_OVERWRITE), tombstone=bool(message.flags & PUT_TOMBSTONE),
        deadline_ms=message.deadline_ms)


def encode_get(bytes key not None, *, bytes bucket not None=b"", bytes session_context not None=b"", uint8_t r=0,
               object strict=None, uint32_t deadline_ms=0) -> bytes:
    """A GET's body. r=0, strict=None and deadline_ms=0 leave the choice to the bucket. Raises as encode_put does."""
    cdef GetMessage message
    check_sizes(key, bucket, session_context, 0)
    message.r = r
    message.flags = strict_flags(strict)
    message.bucket_bytes, message.bucket = <uint8_t>PyBytes_GET_SIZE(bucket), pointer(bucket)
    message.key_bytes, message.key = <uint16_t>PyBytes_GET_SIZE(key), pointer(key)
    message.session_context_bytes = <uint16_t>PyBytes_GET_SIZE(session_context)
    message.session_context = pointer(session_context)
    message.deadline_ms = deadline_ms
    body = PyBytes_FromStringAndSize(NULL, messages_get_body_bytes(&message))
    messages_write_get(<uint8_t *>PyBytes_AS_STRING(body), &message)
    return body


def decode_get(bytes body not None) -> Get:
    """Raises ProtocolError."""
    cdef GetMessage message
    check_parsed(messages_parse_get(pointer(body), PyBytes_GET_SIZE(body), &message))
    return Get(
        key=copied(message.key, message.key_bytes), bucket=copied(message.bucket, message.bucket_bytes),
        session_context=copied(message.session_context, message.session_context_bytes), r=message.r,
        strict=strict_of(message.flags), deadline_ms=message.deadline_ms)


def encode_get_reply(bytes context not None, list siblings not None) -> bytes:
    """The body of a GET_REPLY that is OK or NOT_FOUND, from [(value bytes, tombstone bool, timestamp_ms int)]."""
    cdef GetReplySibling sibling
    cdef bytes value
    cdef size_t values_bytes = 0
    if len(siblings) > 0xFFFF:
        raise ValueError(f"a reply has at most 65535 siblings, not {len(siblings)}")
    if len(context) > 0xFFFF:
        raise ValueError(f"a context has at most 65535 bytes, not {len(context)}")
    for value, _, _ in siblings:
        if value is None:
            raise TypeError("the value of a deleted sibling is empty, not None")
        values_bytes += PyBytes_GET_SIZE(value)
    body = PyBytes_FromStringAndSize(NULL, messages_get_reply_body_bytes(PyBytes_GET_SIZE(context), len(siblings), values_bytes))
    cdef uint8_t *out = messages_write_get_reply(<uint8_t *>PyBytes_AS_STRING(body), len(context), len(siblings))
    memcpy(out, PyBytes_AS_STRING(context), PyBytes_GET_SIZE(context))
    out += PyBytes_GET_SIZE(context)
    for value, tombstone, timestamp_ms in siblings:
        sibling.value_bytes, sibling.value = <uint32_t>PyBytes_GET_SIZE(value), pointer(value)
        sibling.flags = SIBLING_IS_TOMBSTONE if tombstone else 0
        sibling.timestamp_ms = timestamp_ms
        out = messages_write_get_reply_sibling(out, &sibling)
    return body


def decode_get_reply(bytes body not None) -> tuple[bytes, list[tuple[bytes, bool, int]]]:
    """(context, [(value, tombstone, timestamp_ms)]) of a GET_REPLY that is OK or NOT_FOUND. Raises ProtocolError."""
    cdef GetReplyMessage message
    cdef GetReplySibling sibling
    cdef list siblings = []
    check_parsed(messages_parse_get_reply(pointer(body), PyBytes_GET_SIZE(body), &message))
    cdef const uint8_t *at = message.siblings
    for _ in range(message.sibling_count):
        at = messages_get_reply_sibling(at, &sibling)
        siblings.append((copied(sibling.value, sibling.value_bytes), bool(sibling.flags & SIBLING_IS_TOMBSTONE), sibling.timestamp_ms))
    return copied(message.context, message.context_bytes), siblings


def encode_replicate(uint64_t placement, bytes key not None, bytes object not None, *, bytes bucket not None=b"",
                     bint ack_durable=False, bint no_reply=False, object hint_slot=None, bint hint_for_all=False) -> bytes:
    """A REPLICATE's body; `hint_slot` 0..15 makes it a hint for the home in that slot, `hint_for_all` one for all homes. Raises as
    encode_put does."""
    cdef ReplicateMessage message
    check_sizes(key, bucket, b"", PyBytes_GET_SIZE(object))
    message.placement = placement
    message.flags = (REPLICATE_ACK_DURABLE if ack_durable else 0) | (REPLICATE_NO_REPLY if no_reply else 0)
    if hint_for_all:
        if hint_slot is not None:
            raise ValueError("a hint is for all homes or for one")
        message.flags |= REPLICATE_HINT | REPLICATE_FOR_ALL
    if hint_slot is not None:
        if not 0 <= hint_slot < 16:
            raise ValueError(f"a home stands in slot 0 to 15, not {hint_slot}")
        message.flags |= REPLICATE_HINT | <uint8_t>hint_slot << REPLICATE_SLOT_SHIFT
    message.bucket_bytes, message.bucket = <uint8_t>PyBytes_GET_SIZE(bucket), pointer(bucket)
    message.key_bytes, message.key = <uint16_t>PyBytes_GET_SIZE(key), pointer(key)
    message.object_bytes, message.object = <uint32_t>PyBytes_GET_SIZE(object), pointer(object)
    body = PyBytes_FromStringAndSize(NULL, messages_replicate_body_bytes(&message))
    messages_write_replicate(<uint8_t *>PyBytes_AS_STRING(body), &message)
    return body


def decode_replicate(bytes body not None) -> Replicate:
    """Raises ProtocolError. The object is not looked into."""
    cdef ReplicateMessage message
    check_parsed(messages_parse_replicate(pointer(body), PyBytes_GET_SIZE(body), &message))
    return Replicate(
        placement=message.placement, key=copied(message.key, message.key_bytes), bucket=copied(message.bucket, message.bucket_bytes),
        object=copied(message.object, message.object_bytes), ack_durable=bool(message.flags & REPLICATE_ACK_DURABLE),
        no_reply=bool(message.flags & REPLICATE_NO_REPLY),
        hint_slot=(message.flags >> REPLICATE_SLOT_SHIFT
                   if message.flags & REPLICATE_HINT and not message.flags & REPLICATE_FOR_ALL else None),
        hint_for_all=bool(message.flags & REPLICATE_FOR_ALL))


def encode_read(uint64_t placement, bytes key not None, *, bytes bucket not None=b"", uint64_t known_hash=0) -> bytes:
    """A READ's body. Raises as encode_put does."""
    cdef ReadMessage message
    check_sizes(key, bucket, b"", 0)
    message.placement, message.known_hash, message.flags = placement, known_hash, 0
    message.bucket_bytes, message.bucket = <uint8_t>PyBytes_GET_SIZE(bucket), pointer(bucket)
    message.key_bytes, message.key = <uint16_t>PyBytes_GET_SIZE(key), pointer(key)
    body = PyBytes_FromStringAndSize(NULL, messages_read_body_bytes(&message))
    messages_write_read(<uint8_t *>PyBytes_AS_STRING(body), &message)
    return body


def decode_read(bytes body not None) -> Read:
    """Raises ProtocolError."""
    cdef ReadMessage message
    check_parsed(messages_parse_read(pointer(body), PyBytes_GET_SIZE(body), &message))
    return Read(placement=message.placement, key=copied(message.key, message.key_bytes),
                bucket=copied(message.bucket, message.bucket_bytes), known_hash=message.known_hash)
