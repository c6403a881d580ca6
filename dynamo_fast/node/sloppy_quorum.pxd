"""Who is asked in place of a home that cannot be; see sloppy_quorum.pyx."""

from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.requests cimport Request

cdef int take_own_slot(Desk desk, Request request) except -1
cdef int choose_substitute(Desk desk, Request request) except -2
cdef bint substitute(Desk desk, Request request, int slot) except -1
cdef int look_around(Desk desk, Request request) except -1
