"""Repair of homes that lag behind a read; see read_repair.pyx."""

from dynamo_fast.node.desk cimport Desk
from dynamo_fast.node.requests cimport GetRequest

# Brings the homes that answered with less than request.merged up to it; returns how many.
cdef int read_repair(Desk desk, GetRequest request) except -1
