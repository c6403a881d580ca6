"""Local failure detection (paper 4.8.3): a peer that does not answer us is avoided by us, and nobody is told.

A lost connection says it at once. A peer whose connection stands but which owes answers and is silent (it is paused, its disk
hangs, the network swallows what we send) is suspected after `suspect_ms`; requests then go to others, and what waits for it is
handed to a substitute. It is asked for a sign of life only while something is wanted of it, so an idle cluster stays silent.
A connection that has been silent for `final_ms` is closed, and dialled anew with the backoff that dialling has.

The decision itself is `core/suspicion.pyx`. One `Peer` stands for one connection: a newer connection begins without a past.
"""

cimport cython

from dynamo_fast.wire.errors import OutgoingFull

from dynamo_fast.core.suspicion cimport (
    SUSPICION_FINAL,
    SUSPICION_RAISED,
    suspicion_begin,
    suspicion_forgive,
    suspicion_look,
    suspicion_probes,
    suspicion_trusts,
)
from dynamo_fast.wire.data_messages cimport MESSAGE_PING

cdef enum:
    LOOK_MS = 5         # between two looks
    STEP_MS_MAX = 20    # of our own running time that one look may count: whatever is longer was a stall of ours


@cython.final
cdef class Peer:
    """Peer(node_id, connection): another node, over the connection that is in use."""

    def __cinit__(self, bytes node_id not None, Connection connection not None):
        self.node_id = node_id
        self.connection = connection
        suspicion_begin(&self.suspicion, connection.frames, connection.answers)

    cdef bint trusted(self, int64_t now_ms) except -1:
        """May it be asked for something? A suspect may not, but is asked for a sign of life when it is time to."""
        if suspicion_trusts(&self.suspicion, self.connection.frames):
            return True
        if suspicion_probes(&self.suspicion, now_ms):
            try:
                self.connection.begin(MESSAGE_PING, 0, 0, 0, 0)
            except OutgoingFull:
                return False  # what fills it will be answered or not; that says the same
            self.connection.finish()
            self.suspicion.asked += 1
        return False


@cython.final
cdef class FailureDetector:
    """FailureDetector(suspect_ms, final_ms): milliseconds of silence until a peer is suspected, until its connection is closed."""

    def __cinit__(self, int64_t suspect_ms, int64_t final_ms):
        if not 0 < suspect_ms < final_ms:
            raise ValueError(f"a peer is suspected before it is given up: not {suspect_ms} and {final_ms} ms")
        self.suspect_ms, self.final_ms = suspect_ms, final_ms
        self.peers = {}

    cdef list look(self, int64_t now_ms):
        """At the end of a pass, when all that had arrived has been read: the peers that are suspected from now on."""
        cdef Peer peer
        cdef int64_t step_ms = now_ms - self.looked_at_ms
        cdef int found
        cdef list raised = []
        if step_ms < LOOK_MS:
            return raised
        self.looked_at_ms = now_ms
        self.suspects = 0
        for peer in self.peers.values():
            found = suspicion_look(&peer.suspicion, peer.connection.frames, peer.connection.answers, min(step_ms, STEP_MS_MAX),
                                   self.suspect_ms, self.final_ms)
            if found == SUSPICION_RAISED:
                self.suspicions += 1
                raised.append(peer)
            elif found == SUSPICION_FINAL and not peer.connection.closing:
                self.given_up += 1
                peer.connection.close(f"it owes answers and has been silent for {self.final_ms} ms")
            self.suspects += peer.suspicion.suspected
        return raised

    cdef int forget_questions(self) noexcept:
        """What this pass asked was never sent: nobody owes an answer to it."""
        cdef Peer peer
        for peer in self.peers.values():
            suspicion_forgive(&peer.suspicion, peer.connection.answers)
        return 0
