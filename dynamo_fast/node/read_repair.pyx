"""Read repair (paper 5): whoever answered a get with less than the merge of all answers is sent the merge, after the answer.

A home that answered "nothing" is one of them, and so is one whose copy is damaged. What is sent is merged there like any other object, so a repair can only add; it
asks for no acknowledgement, and one that is lost is made up for by the next get or by anti-entropy.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.node.answers cimport UNSURE
from dynamo_fast.node.failure_detector cimport Peer
from dynamo_fast.node.replica cimport DAMAGED, Address, ObjectView
from dynamo_fast.wire.data_messages cimport (
    MESSAGE_REPLICATE,
    REPLICATE_NO_REPLY,
    ReplicateMessage,
    replicate_body_bytes,
    write_replicate,
)


cdef int read_repair(Desk desk, GetRequest request) except -1:
    cdef const uint16_t *homes = request.homes
    cdef ReplicateMessage message
    cdef Peer peer
    cdef ObjectView kept
    cdef Address address
    cdef uint8_t *out
    cdef int slot, repaired = 0
    if request.merged == NULL or request.view is not desk.view:
        return 0
    for slot in range(request.quorum.homes):
        if request.version_of[slot] == request.version:
            continue
        if request.standins & (1u << slot):
            continue  # who answered is no home
        if not request.quorum.acked & (1u << slot) and not (request.quorum.failed & (1u << slot) and
                                                            request.reasons[slot] in (DAMAGED, UNSURE)):
            continue
        repaired += 1
        if homes[slot] == request.view.own_index:
            desk.replica.locate(<const uint8_t *><const char *>request.bucket, len(request.bucket),
                                <const uint8_t *><const char *>request.key, len(request.key), &address)
            desk.replica.merge(&address, request.merged, request.merged_n, 0, &kept)
            continue
        peer = desk.reachable(request.view, homes[slot])
        if peer is None:
            continue
        message.placement = request.view.placement
        message.flags = REPLICATE_NO_REPLY
        message.bucket, message.bucket_bytes = <const uint8_t *><const char *>request.bucket, <uint8_t>len(request.bucket)
        message.key, message.key_bytes = <const uint8_t *><const char *>request.key, <uint16_t>len(request.key)
        message.object, message.object_bytes = request.merged, <uint32_t>request.merged_n
        try:
            out = peer.connection.begin(MESSAGE_REPLICATE, 0, 0, 0, replicate_body_bytes(&message))
        except OutgoingFull:
            continue
        write_replicate(out, &message)
        peer.connection.finish()
    return repaired
