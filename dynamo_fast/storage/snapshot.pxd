"""LMDB as the node sees it, for the engine with a disk."""

from libc.stdint cimport uint8_t, uint64_t

from dynamo_fast.storage.schema cimport RecordView


cdef class Snapshot:
    cdef object tables
    cdef readonly object transaction    # the read transaction, a new one whenever the helper has committed
    cdef object get_record              # its get
    cdef object held                    # the memoryview behind the last view
    cdef readonly bint empty            # there is no record: `find` need not be called
    cdef readonly bint damaged          # rows that are not records: the trees are made right by the scrub
    cdef readonly uint64_t finds

    # As Engine.find, whose FIND_* it answers; the view is valid until the next find or renew.
    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1
