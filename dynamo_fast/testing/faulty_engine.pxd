"""The engine that errs; see faulty_engine.pyx."""

from libc.stdint cimport uint8_t, uint64_t

from dynamo_fast.storage.engine cimport Engine
from dynamo_fast.testing.dots cimport DotRegistry


cdef class FaultyEngine(Engine):
    cdef readonly Engine inner
    cdef public str failure         # not None: the next log write fails with this sentence; writes are refused until `heal`
    cdef public bint full           # room is none, for client puts
    cdef public bint behind         # room is soft: slow down
    cdef public bint hold_syncs     # a sync that is asked for is not done until `finish_syncs`
    cdef public bint syncs_fail     # from now on an fdatasync fails, and nothing more becomes durable
    cdef public object on_sync      # called instead of doing a sync at once; whoever it is calls `finish_syncs`; None: nobody
    cdef public object on_removal   # called with the store key and the record before one is removed, given a journal; None: nobody
    cdef readonly uint64_t writes   # log writes that have worked
    cdef readonly uint64_t written_to   # log position up to which log writes have worked
    cdef DotRegistry dots           # is shown every record that is stored; None: nobody
    cdef set uncounted              # those of them whose hashes do not stand in the tree any more
    cdef set damaged                # store keys whose records cannot be read
    cdef str refusal
    cdef bint syncing               # on_sync has been called and finish_syncs not yet
    cdef bint unwritten             # this pass has stored something
    cdef uint64_t written           # as if there were a log: what was stored
    cdef uint64_t synced
    cdef object journal             # deque of (end position, store key, record replaced or None) since `synced`; None: not kept

    cdef uint64_t hash_in_tree(self, const uint8_t *store_key, bytes key, uint64_t old_hash) except? 0
