"""Answers to clients; see answers.pyx."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from dynamo_fast.node.requests cimport GetRequest, Request
from dynamo_fast.wire.connection cimport Connection

cdef enum:                      # reasons beside the wire's statuses, never on the wire; DAMAGED (replica.pxd) is another
    SILENT = 0xFFFE             # suspected: it owes answers and says nothing
    UNSURE = 0xFFFD             # it may have lost data

cdef int refuse(Connection client, uint8_t reply_type, uint64_t request_id, uint16_t status, str text) except -1
cdef int answer_bytes(Connection client, uint8_t reply_type, uint8_t flags, uint16_t status, uint64_t request_id,
                      const uint8_t *body, size_t n) except -1
cdef int answer_get(GetRequest request, const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position) except -1
cdef str shortfall(Request request, str missing)
