"""HELLO and CONTROL bodies: the messages in which nothing hurries, as msgpack maps with field names.

A connection opens with HELLO. CONTROL requests and their replies are tagged unions (the tag is the field `op`); the frame's request id
pairs them. A reply whose frame status is not OK carries UTF-8 text instead of a struct. Fields unknown to the reader are ignored and
new fields have defaults, so that two versions can talk; an unknown `op` is an error that names the known ones.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from dynamo_fast.core.departure import Departure
from dynamo_fast.core.membership import Id16, Name, NodeEntry, Weight
from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.wire.fields import BucketName, Partition, StoreKey
from dynamo_fast.wire.membership_messages import MembershipReply, MembershipRequest
from dynamo_fast.wire.replica_messages import ReplicaReply, ReplicaRequest

VERSION = 1  # the protocol version this code speaks
KEYS_PAGE_MAX = 8192  # keys in one page
KEYS_PARTITIONS_MAX = 4096  # partitions of which one page may tell
MessageBytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class ControlMessageError(ValueError):
    """Bytes that are no such message; the text says what was wrong, for the peer to read."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of whoever dialled. A node presents its cluster id, unless it knows of no cluster yet; with `passing` it comes for
    an exchange of control messages only, and the connection carries no replica requests either way."""

    magic: Literal["dynamo-fast"] = "dynamo-fast"
    versions: Annotated[list[int], msgspec.Meta(min_length=1, max_length=64)]
    role: Literal["client", "node"]
    cluster_id: Id16 | None = None
    node_id: Id16 | None = None
    address: Name | None = None
    software: Annotated[str, msgspec.Meta(max_length=64)] = ""
    passing: bool | msgspec.UnsetType = msgspec.UNSET
    starts: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET  # of a node: how often its data directory was started
    message_bytes_max: MessageBytes | msgspec.UnsetType = msgspec.UNSET  # longest message that it puts together of pieces; none: nothing


class HelloReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the version both speak from here on, and who answers. `cluster_id` is None before a cluster is known; only members say
    `message_bytes_max`, and only to each other."""

    version: int
    cluster_id: Id16 | None = None
    node_id: Id16
    software: str = ""
    starts: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET
    message_bytes_max: MessageBytes | msgspec.UnsetType = msgspec.UNSET


# Requests


class PlacementRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="placement"):
    """All that a client needs to send each request straight to a home of its key."""


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="status"):
    """How this one node is."""


class RingInfoRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="ring_info"):
    """Who owns how much of the ring."""


class BucketSetRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="bucket_set"):
    """From now on the bucket has these settings, as a whole. The empty name is the default bucket."""

    name: BucketName
    settings: BucketSettings


class BucketListRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="bucket_list"):
    """Every bucket that was ever given settings."""


class KeysPageRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="keys_page"):
    """Keys of one bucket that this node holds in some partitions, of all of which it is a home, in order of store key, after `after`
    (24 bytes; empty: from the start). The partitions ascend."""

    partitions: Annotated[list[Partition], msgspec.Meta(min_length=1, max_length=KEYS_PARTITIONS_MAX)]
    bucket: BucketName = b""
    after: StoreKey = b""
    limit: Annotated[int, msgspec.Meta(ge=1, le=KEYS_PAGE_MAX)] = 1000


class HintsRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="hints"):
    """What this node keeps for others."""


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="repair"):
    """Compare everything with every peer now. `run` 0 begins that, or joins what is under way; another asks how that run is."""

    run: Annotated[int, msgspec.Meta(ge=0)] = 0


# Replies


class BucketEntry(msgspec.Struct, frozen=True, kw_only=True):
    name: BucketName
    settings: BucketSettings


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a node refuses as too large, in bytes, so that a client can refuse first."""

    key_bytes_max: int
    value_bytes_max: int
    frame_bytes_max: int


class PlacementReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="placement"):
    """`table` is, for each partition in turn, all `len(nodes)` node indices in preference order as u16 little-endian: the first
    `replicas` are the homes, the rest the fallbacks. An index counts in `nodes`, which are sorted by id."""

    number: int
    name: int
    digest: Id16
    cluster_id: Id16
    partitions: int
    replicas: int
    nodes: list[NodeEntry]
    table: bytes
    buckets: list[BucketEntry]
    defaults: ClusterDefaults
    limits: ClientLimits

    def preference_lists(self) -> list[tuple[int, ...]]:
        """Per partition the indices of all nodes in preference order; ValueError when the table has another size than it says."""
        count = len(self.nodes)
        if len(self.table) != 2 * count * self.partitions or not count:
            raise ValueError(f"the placement's table has {len(self.table)} bytes for {self.partitions} partitions and {count} nodes")
        table = struct.unpack(f"<{count * self.partitions}H", self.table)
        return [table[start : start + count] for start in range(0, len(table), count)]


class ChangeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a change of members is, as one node knows it. While changes only wait to be taken in, `step` is "none" and both numbers are
    that of the placement in force. The steps are those of core/change.py, in small letters."""

    from_number: int
    to_number: int
    step: str  # what this node does now
    waiting_for: list[Name] = []  # addresses of those that have not told yet of having done it
    waiting_changes: int = 0  # changes that the one under way does not take in: one of their own takes them in afterwards


class StatusReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="status"):
    """`state`: waiting (knows of no cluster), starting (still dialling, or fewer members are up than the defaults for R and W
    need), ready, read-only (its disk failed), draining, leaving (has departed and still hands over what it holds),
    left (has departed and holds nothing). `statistics` holds groups by name, each a map of figures whose names end in their unit. `change`
    is None when none is under way and none waits. `beside` are nodes that take part and are not in the placement in force here: those of
    the one that comes, and those that have departed and are not gone yet."""

    node_id: Id16
    address: str
    host: str
    zone: str
    weight: Weight = 100
    state: Literal["waiting", "starting", "ready", "read-only", "draining", "leaving", "left"]
    member: bool
    software: str
    uptime_s: float
    cluster_id: Id16 | None
    placement_number: int
    placement_name: int
    members: int
    peers_up: list[Id16]
    history_digest: Id16
    statistics: dict[str, Any]
    change: ChangeStatus | None = None
    beside: list[NodeEntry] = []


class MemberShare(msgspec.Struct, frozen=True, kw_only=True):
    """How much one member owns: partitions as first home, partitions as any home, and the latter's share of all replicas."""

    node: NodeEntry
    partitions_first: int
    partitions_owned: int
    share: float
    up: bool


class RingInfoReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="ring_info"):
    number: int
    name: int
    digest: Id16
    partitions: int
    replicas: int
    members: list[MemberShare]


class BucketSetReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="bucket_set"):
    """The change is on this node's disk; gossip takes it to the others."""


class BucketListReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="bucket_list"):
    buckets: list[BucketEntry]
    defaults: ClusterDefaults


class KeysPageReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="keys_page"):
    """`entries` is a page as wire/key_page.pyx has it, without keys whose every sibling is a tombstone. `next` is the `after` of the next
    page: all that this node holds of the partitions up to and including it has been told. `done`: there is nothing behind it. `suspects`
    are those of the partitions in which this node has lost records, so that what it tells of them is not all there was."""

    entries: bytes
    next: bytes
    done: bool
    suspects: list[int] = []


class RepairReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="repair"):
    """How far a run is: of `partitions`, counted once for each peer, `compared` are equal or made so, of which `differing` had not been.
    `failed` has, by address, why a peer could not be compared with."""

    run: int
    done: bool
    peers: int
    partitions: int
    compared: int
    differing: int
    keys_pulled: int
    keys_pushed: int
    failed: dict[str, str] = {}


class OwnerHints(msgspec.Struct, frozen=True, kw_only=True):
    """What one node keeps for one other: how many objects, their bytes with their keys, and seconds since the oldest was written."""

    node_id: Id16
    hints: int
    size_bytes: int
    oldest_s: float


class HintsReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="hints"):
    """By owner; owners for whom nothing is kept are left out."""

    owners: list[OwnerHints]


Request = (
    PlacementRequest | StatusRequest | RingInfoRequest | BucketSetRequest | BucketListRequest | KeysPageRequest | HintsRequest
    | RepairRequest | MembershipRequest | ReplicaRequest
)  # fmt: skip
Reply = (
    PlacementReply | StatusReply | RingInfoReply | BucketSetReply | BucketListReply | KeysPageReply | HintsReply
    | RepairReply | MembershipReply | ReplicaReply
)  # fmt: skip

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_hello = msgspec.msgpack.Decoder(Hello)
_hello_reply = msgspec.msgpack.Decoder(HelloReply)
_departure = msgspec.msgpack.Decoder(Departure)
_request: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Hello | HelloReply | Departure | Request | Reply) -> bytes:
    """The body of a HELLO, HELLO_REPLY, CONTROL or CONTROL_REPLY frame."""
    return _encoder.encode(message)


def _decode(decoder: msgspec.msgpack.Decoder[T], what: str, body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlMessageError(f"not a {what}: {error}") from error


def decode_hello(body: bytes) -> Hello:
    return _decode(_hello, "hello", body)


def decode_hello_reply(body: bytes) -> HelloReply:
    return _decode(_hello_reply, "hello reply", body)


def decode_departure(body: bytes) -> Departure:
    """The body of a HELLO_REPLY with status DEPARTED."""
    return _decode(_departure, "departure", body)


def decode_request(body: bytes) -> Request:
    return _decode(_request, "control request", body)


def decode_reply(body: bytes) -> Reply:
    return _decode(_reply, "control reply", body)
