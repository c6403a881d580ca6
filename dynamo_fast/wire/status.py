"""Status codes of replies, and which of the three outcomes each one is (the promise that every answer is honest).

The ranges are part of the protocol: a client that meets a code it does not know still knows its outcome.
"""

from __future__ import annotations

from enum import Enum, IntEnum, unique


class Outcome(Enum):
    """What a reply says about the request: it happened, it certainly did not, or nobody can tell."""

    OK = "ok"
    NOT_APPLIED = "certainly not applied"
    UNKNOWN = "unknown whether applied"


@unique
class Status(IntEnum):
    """The u16 status of a frame header; the body of any reply above NOT_FOUND is a UTF-8 sentence."""

    OK = 0
    NOT_FOUND = 1
    BAD_REQUEST = 16
    TOO_LARGE = 17
    BAD_CONTEXT = 18
    OVERLOAD = 19
    TOO_MANY_SIBLINGS = 20
    NOT_READY = 21
    NO_SUCH_BUCKET = 22
    READ_ONLY = 23
    STALE_PLACEMENT = 24
    UNSUPPORTED_VERSION = 25
    CLOCK_FULL = 26
    NOT_ENOUGH_REPLICAS = 27
    KEY_COLLISION = 28
    WRONG_CLUSTER = 29
    DEPARTED = 30
    QUORUM_FAILED = 64
    DEADLINE = 65

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self)


def outcome_of(status: int) -> Outcome:
    """The outcome of any status, known to this version or not: 0-15 ok, 16-63 certainly not applied, 64-65535 unknown."""
    if not 0 <= status <= 0xFFFF:
        raise ValueError(f"a status is 0..65535, not {status}")
    if status < 16:
        return Outcome.OK
    return Outcome.NOT_APPLIED if status < 64 else Outcome.UNKNOWN


@unique
class MessageType(IntEnum):
    """The u8 type of a frame header. The reply to a request has its type plus one."""

    HELLO = 1
    HELLO_REPLY = 2
    PUT = 16
    PUT_REPLY = 17
    GET = 18
    GET_REPLY = 19
    REPLICATE = 32
    REPLICATE_REPLY = 33
    READ = 34
    READ_REPLY = 35
    PING = 36
    PONG = 37
    CONTROL = 48
    CONTROL_REPLY = 49
