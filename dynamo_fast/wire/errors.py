"""What goes wrong between bytes and messages. Their wrong bytes and ours are different errors (h11's rule)."""

from __future__ import annotations


class WireError(Exception):
    """Base of everything that this floor raises about bytes that came or went over a connection."""


class ProtocolError(WireError):
    """The other side sent bytes that are not the protocol. The stream cannot be trusted again: close the connection."""


class BufferFull(WireError):
    """A buffer would have to grow over its limit. Nothing was added to it."""


class OutgoingFull(BufferFull):
    """The other side does not read what we answer, and its outgoing buffer is at its limit: close the connection."""


class MessageTooLong(OutgoingFull):
    """The other side does not take a message of that length. Nothing was queued, and what was has nothing to do with it: the connection is
    sound."""
