"""Answers to clients: the bytes of a get's reply, and sentences that say what happened and what to do."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dynamo_fast.wire.errors import MessageTooLong, OutgoingFull

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.core.context cimport CONTEXT_ENTRIES_MAX, context_bytes, context_seal
from dynamo_fast.core.siblings cimport SIBLING_TOMBSTONE, SiblingView, object_clock, object_clock_count, object_next
from dynamo_fast.node.replica cimport DAMAGED
from dynamo_fast.node.requests cimport node_in
from dynamo_fast.wire.data_messages cimport (
    MESSAGE_GET_REPLY,
    SIBLING_IS_TOMBSTONE,
    STATUS_CLOCK_FULL,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_OVERLOAD,
    STATUS_READ_ONLY,
    STATUS_TOO_LARGE,
    GetReplySibling,
    get_reply_body_bytes,
    write_get_reply,
    write_get_reply_sibling,
)


cdef int answer_bytes(Connection client, uint8_t reply_type, uint8_t flags, uint16_t status, uint64_t request_id,
                      const uint8_t *body, size_t n) except -1:
    """One reply; a client that has gone, or is going, gets none; one that does not read its answers is closed. One that does not take an
    answer of that length is told so instead."""
    cdef uint8_t *out
    if client.closing:
        return 0
    try:
        out = client.begin(reply_type, flags, status, request_id, n)
    except OutgoingFull as error:
        if isinstance(error, MessageTooLong):
            return refuse(client, reply_type, request_id, STATUS_TOO_LARGE, too_long(error))
        client.close(str(error))
        return 0
    if n:
        memcpy(out, body, n)
    return client.finish()


cdef int refuse(Connection client, uint8_t reply_type, uint64_t request_id, uint16_t status, str text) except -1:
    """A reply that is not OK: its body is the sentence."""
    cdef bytes encoded = text.encode()
    return answer_bytes(client, reply_type, 0, status, request_id, <const uint8_t *><const char *>encoded, len(encoded))


cdef str too_long(error):
    """What a client does about an answer that it does not take: only of a key whose versions are that long together."""
    return (f"the key's versions together are {error}. Get it with a client that takes more (answer_bytes_max), resolve, and put with "
            "the context; or put with overwrite, which gives them up")


REASONS = {0: "is unreachable", STATUS_OVERLOAD: "is overloaded", STATUS_READ_ONLY: "takes no writes", DAMAGED: "has a damaged copy",
           SILENT: "does not answer", UNSURE: "may have lost data and is being brought up to date"}


cdef str shortfall(Request request, str missing):
    """Which homes did not answer in time or at all: `wanted 2, got 1: 10.0.0.2:7400 is unreachable, 10.0.0.3:7400 refused`."""
    cdef int slot
    cdef list parts = []
    for slot in range(request.quorum.homes):
        if request.quorum.acked & (1u << slot):
            if request.quorum.wanted_durable and not request.quorum.durable & (1u << slot):
                parts.append(f"{request.view.labels[node_in(request, slot)]} has it in memory and not yet on disk")
            continue
        state = request.reasons[slot] if request.quorum.failed & (1u << slot) else None
        parts.append(f"{request.view.labels[node_in(request, slot)]} "
                     f"{missing if state is None else REASONS.get(state, f'refused with status {state}')}")
    got = bin(request.quorum.acked).count("1")
    durable = f", {request.quorum.wanted_durable} of them on disk" if request.quorum.wanted_durable else ""
    both = " before and after the change of members that is under way" if request.quorum.second else ""
    return f"wanted {request.quorum.wanted}{durable}{both}, got {got}: {', '.join(parts)}"


cdef bint shown_before(const uint8_t *merged, size_t n, size_t end, const uint8_t *request_id):
    """Has a sibling before offset `end` the same put id? A retry at another coordinator makes an equal sibling: one is shown."""
    cdef SiblingView sibling
    cdef size_t offset = 0
    if load_u64(request_id) == 0 and load_u64(request_id + 8) == 0:
        return False
    while object_next(merged, n, &offset, &sibling) == 1 and offset < end:
        if memcmp(sibling.request_id, request_id, 16) == 0:
            return True
    return False


cdef int answer_get(GetRequest request, const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position) except -1:
    """Every version that is shown, and the context that covers all of them; NOT_FOUND when none is live, CLOCK_FULL when merges have left
    more entries than a context has room for."""
    cdef SiblingView sibling
    cdef GetReplySibling shown
    cdef size_t offset = 0, values_bytes = 0
    cdef uint32_t entries = object_clock_count(request.merged) if request.merged != NULL else 0
    cdef int count = 0, live = 0
    cdef uint8_t *out
    if request.client.closing:
        return 0
    if request.merged != NULL:
        while object_next(request.merged, request.merged_n, &offset, &sibling) == 1:
            if shown_before(request.merged, request.merged_n, offset, sibling.request_id):
                continue
            count += 1
            values_bytes += sibling.value_n
            live += not sibling.flags & SIBLING_TOMBSTONE
    if live == 0:
        count, values_bytes = 0, 0
    if entries > CONTEXT_ENTRIES_MAX:
        return refuse(request.client, MESSAGE_GET_REPLY, request.client_request_id, STATUS_CLOCK_FULL,
                      "the key's clock is longer than a context can be; get it again when it has been settled")
    cdef size_t sealed_bytes = context_bytes(entries, False) if request.merged != NULL else 0
    try:
        out = request.client.begin(MESSAGE_GET_REPLY, 0, STATUS_OK if live else STATUS_NOT_FOUND, request.client_request_id,
                                   get_reply_body_bytes(sealed_bytes, count, values_bytes))
    except OutgoingFull as error:
        if isinstance(error, MessageTooLong):
            return refuse(request.client, MESSAGE_GET_REPLY, request.client_request_id, STATUS_TOO_LARGE, too_long(error))
        return refuse(request.client, MESSAGE_GET_REPLY, request.client_request_id, STATUS_OVERLOAD,
                      "the answers that wait to be read leave no room for this one; read them, then ask again")
    out = write_get_reply(out, <uint16_t>sealed_bytes, <uint16_t>count)
    if request.merged != NULL:
        context_seal(mac_key, cluster_id, position, object_clock(request.merged), entries, NULL, out)
    out += sealed_bytes
    offset = 0
    while count and object_next(request.merged, request.merged_n, &offset, &sibling) == 1:
        if shown_before(request.merged, request.merged_n, offset, sibling.request_id):
            continue
        shown.value_bytes = sibling.value_n
        shown.flags = SIBLING_IS_TOMBSTONE if sibling.flags & SIBLING_TOMBSTONE else 0
        shown.timestamp_ms = sibling.timestamp_ms
        shown.value = sibling.value
        out = write_get_reply_sibling(out, &shown)
    return request.client.finish()
