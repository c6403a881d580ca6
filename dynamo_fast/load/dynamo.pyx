"""Our own protocol, as far as a load needs it: PUT and GET frames and their replies, in any order.

A put carries the context held for its key. One without (the first put of a key that was never read here) asks for
`overwrite`, as a bulk load does: a blind put would make a sibling of whatever an earlier run left behind.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from dynamo_fast.core.bytes cimport store_u64
from dynamo_fast.load.keys cimport KEY_NAME_BYTES
from dynamo_fast.load.protocol cimport REPLY_NOT_FOUND, REPLY_OK, REPLY_STATUS_OTHER, Operation, Protocol, Reply
from dynamo_fast.load.random cimport random_u64
from dynamo_fast.wire.data_messages cimport (
    GET_STRICT, GET_STRICT_GIVEN, MESSAGE_DW_DEFAULT, MESSAGE_GET, MESSAGE_GET_REPLY, MESSAGE_PUT, MESSAGE_PUT_REPLY,
    PUT_OVERWRITE, PUT_STRICT, PUT_STRICT_GIVEN, SIBLING_IS_TOMBSTONE, STATUS_QUORUM_FAILED, GetMessage, GetReplyMessage,
    GetReplySibling, PutMessage, get_body_bytes, get_reply_sibling, parse_get_reply, put_body_bytes, write_get, write_put,
)
from dynamo_fast.wire.frame cimport FRAME_HEADER_BYTES, FrameHeader, scan_frame, seal_frame

cdef enum:
    BODY_BYTES_MAX = 256 << 20     # of a reply: more than any configuration lets a node send
    FIXED_BYTES_MAX = 64           # of a PUT or GET body


@cython.final
cdef class DynamoProtocol(Protocol):
    """PUT and GET with the same options for every request; `seed` decides the put ids.

    `w`, `r` 0 and `dw`, `strict` None leave it to the bucket's defaults, as does a `deadline_ms` of 0. Raises ValueError
    for a bucket name of more than 64 bytes and OverflowError for counts outside 0..255.
    """

    def __cinit__(self, *, uint8_t w=0, object dw=None, uint8_t r=0, object strict=None, bytes bucket=b"",
                  unsigned int deadline_ms=0, uint64_t seed=1):
        if len(bucket) > 64:
            raise ValueError(f"a bucket's name has at most 64 bytes, not {len(bucket)}")
        self.in_order = False
        self.bucket = bucket
        self.random = seed
        memset(&self.put, 0, sizeof(PutMessage))
        memset(&self.get, 0, sizeof(GetMessage))
        self.put.w = w
        self.put.dw = <uint8_t>MESSAGE_DW_DEFAULT if dw is None else dw
        self.put.deadline_ms = self.get.deadline_ms = deadline_ms
        self.get.r = r
        if strict is not None:
            self.put.flags = <uint8_t>(PUT_STRICT_GIVEN | (PUT_STRICT if strict else 0))
            self.get.flags = <uint8_t>(GET_STRICT_GIVEN | (GET_STRICT if strict else 0))
        self.put.bucket_bytes = self.get.bucket_bytes = <uint8_t>len(bucket)
        self.put.bucket = self.get.bucket = <const uint8_t *>self.bucket
        self.put.key_bytes = self.get.key_bytes = KEY_NAME_BYTES

    cdef size_t request_bytes_max(self, size_t value_bytes, size_t context_bytes) noexcept nogil:
        return FRAME_HEADER_BYTES + FIXED_BYTES_MAX + 64 + KEY_NAME_BYTES + context_bytes + value_bytes

    cdef size_t write_put(self, uint8_t *out, uint64_t id, const uint8_t *name, const uint8_t *value,
                          size_t value_bytes, const uint8_t *context, size_t context_bytes) noexcept nogil:
        cdef PutMessage put = self.put
        cdef FrameHeader header
        cdef uint8_t put_id[16]
        store_u64(put_id, random_u64(&self.random))
        store_u64(put_id + 8, random_u64(&self.random))
        put.put_id = put_id
        put.key = name
        put.value = value
        put.value_bytes = <unsigned int>value_bytes
        put.context = context
        put.context_bytes = <unsigned short>context_bytes
        if not context_bytes:
            put.flags |= PUT_OVERWRITE
        memset(&header, 0, sizeof(header))
        header.type = MESSAGE_PUT
        header.request_id = id
        header.body_bytes = <unsigned int>put_body_bytes(&put)
        write_put(out + FRAME_HEADER_BYTES, &put)
        seal_frame(out, &header)
        return FRAME_HEADER_BYTES + header.body_bytes

    cdef size_t write_get(self, uint8_t *out, uint64_t id, const uint8_t *name) noexcept nogil:
        cdef GetMessage get = self.get
        cdef FrameHeader header
        get.key = name
        memset(&header, 0, sizeof(header))
        header.type = MESSAGE_GET
        header.request_id = id
        header.body_bytes = <unsigned int>get_body_bytes(&get)
        write_get(out + FRAME_HEADER_BYTES, &get)
        seal_frame(out, &header)
        return FRAME_HEADER_BYTES + header.body_bytes

    cdef ssize_t parse(self, const uint8_t *data, size_t n, Operation oldest, Reply *reply) noexcept nogil:
        cdef FrameHeader header
        cdef const uint8_t *body = data + FRAME_HEADER_BYTES
        cdef int64_t used = scan_frame(data, n, BODY_BYTES_MAX, &header)
        if used <= 0:
            return 0 if used == 0 else -1
        reply.id = header.request_id
        if header.type != MESSAGE_PUT_REPLY and header.type != MESSAGE_GET_REPLY:
            return -1
        if header.status > REPLY_NOT_FOUND:
            reply.status = <uint8_t>(header.status if header.status < REPLY_STATUS_OTHER else REPLY_STATUS_OTHER)
            reply.unknown = header.status >= STATUS_QUORUM_FAILED
            reply.text = body
            reply.text_bytes = header.body_bytes
        elif header.type == MESSAGE_GET_REPLY:
            return used if self._parse_get_reply(&header, body, reply) == 0 else -1
        else:
            reply.status = <uint8_t>header.status
            reply.context = body
            reply.context_bytes = header.body_bytes
        return used

    cdef int _parse_get_reply(self, const FrameHeader *header, const uint8_t *body, Reply *reply) noexcept nogil:
        cdef GetReplyMessage message
        cdef GetReplySibling sibling
        if parse_get_reply(body, header.body_bytes, &message) < 0:
            return -1
        reply.status = <uint8_t>header.status
        reply.siblings = message.sibling_count
        if message.context_bytes:
            reply.context = message.context
            reply.context_bytes = message.context_bytes
        if message.sibling_count:
            get_reply_sibling(message.siblings, &sibling)
            if not sibling.flags & SIBLING_IS_TOMBSTONE:
                reply.value = sibling.value
                reply.value_bytes = sibling.value_bytes
        return 0
