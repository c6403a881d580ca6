"""HELLO and CONTROL bodies: the messages in which nothing hurries, as msgpack maps with field names.

A connection opens with HELLO. CONTROL requests and their replies are tagged unions (the tag is the field `op`); the frame's request id
pairs them. A reply whose frame status is not OK carries UTF-8 text instead of a struct. Fields unknown to the reader are ignored and
new fields have defaults, so that two versions can talk; an unknown `op` is an error that names the known ones.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from dynamo_fast.core.membership import Id16, Name, NodeEntry, Record
from dynamo_fast.core.options import BucketSettings, ClusterDefaults

VERSION = 1  # the protocol version this code speaks
GOSSIP_RECORDS_MAX = 256  # change records in one message; the next round brings the rest
GOSSIP_IDS_MAX = 1 << 20
KEYS_PAGE_MAX = 8192  # keys in one page
KEYS_PARTITIONS_MAX = 4096  # partitions of which one page may tell
MERGE_ENTRIES_MAX = 1024  # objects, or keys, in one message between nodes
OUTLINES_MAX = 256  # outlines in one message
LISTED_MAX = 1024  # keys with their hashes in one message

BucketName = Annotated[bytes, msgspec.Meta(max_length=64)]
Partition = Annotated[int, msgspec.Meta(ge=0, le=65535)]
StoreKey = Annotated[bytes, msgspec.Meta(max_length=24)]
Versions = Annotated[bytes, msgspec.Meta(max_length=32 * 4096)]
Ids = Annotated[list[Id16], msgspec.Meta(max_length=GOSSIP_IDS_MAX)]
WholeStoreKey = Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]
PartitionRoots = Annotated[bytes, msgspec.Meta(max_length=8 * 65536)]
TreeNodes = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=65535)]], msgspec.Meta(min_length=1, max_length=256)]
ObjectKey = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]
ObjectEntries = Annotated[list[tuple[BucketName, ObjectKey, bytes]], msgspec.Meta(max_length=MERGE_ENTRIES_MAX)]
PlacementName = Annotated[int, msgspec.Meta(ge=0)]
Records = Annotated[list[Record], msgspec.Meta(max_length=GOSSIP_RECORDS_MAX)]


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


class HelloReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the version both speak from here on, and who answers. `cluster_id` is None before a cluster is known."""

    version: int
    cluster_id: Id16 | None = None
    node_id: Id16
    software: str = ""


# Requests


class PlacementRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="placement"):
    """All that a client needs to send each request straight to a home of its key."""


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="status"):
    """How this one node is."""


class RingInfoRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="ring_info"):
    """Who owns how much of the ring."""


class GossipRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="gossip"):
    """One step of an exchange of histories: records the other lacks, ids wanted from it, and the sender's digest after that."""

    digest: Id16
    records: Records = []
    wanted: Ids = []


class BirthRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="birth"):
    """A node that was started with `--bootstrap` asks the first of the list to make the cluster."""

    member: NodeEntry
    bootstrap: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=4096)]


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


class MergeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="merge"):
    """Between members: merge these (bucket, key, object) into your copies, and answer when they are on disk. The sender works by that
    placement. What bounds an object is the frame."""

    placement: PlacementName
    entries: ObjectEntries


class HintsRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="hints"):
    """What this node keeps for others."""


class ForgetCheckRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="forget_check"):
    """Do you hold these versions, on disk? Each is a store key (24 bytes) and a hash (u64, little-endian). For nodes, as the next three."""

    placement: int
    versions: Versions


class QuiesceRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="quiesce"):
    """Wait until what you had under way is over and every other member has read what you sent it. Token 0 begins; then ask with the
    token of the reply until it is done."""

    token: int = 0


class StraysRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="strays"):
    """In which of these partitions, of those that you are no home of, do you hold anything?"""

    placement: int
    partitions: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=65535)]], msgspec.Meta(max_length=65536)]


class ForgetRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="forget"):
    """Drop those of these versions that you still hold: deletes whole, of others the clock's entries from before `before_ms` until
    `entries_max` are left."""

    placement: int
    versions: Versions
    before_ms: Annotated[int, msgspec.Meta(ge=0)]
    entries_max: Annotated[int, msgspec.Meta(ge=0, le=65535)]


class CompareRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="compare"):
    """Between two homes: the roots, 8 little-endian bytes each, of these partitions in ascending order; None: of all that both are homes
    of; none: the exchange is over, and `finished` when it has made equal all that differed."""

    placement: PlacementName
    partitions: Annotated[list[Partition], msgspec.Meta(max_length=65536)] | None = None
    roots: PartitionRoots = b""
    finished: bool = False


class TreeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="tree"):
    """The hashes of the descendants, `depth` levels below, of these nodes of a level of a partition's Merkle tree."""

    placement: PlacementName
    partition: Partition
    level: Annotated[int, msgspec.Meta(ge=0, le=16)]
    nodes: TreeNodes
    depth: Annotated[int, msgspec.Meta(ge=1, le=8)]


class EntriesRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="entries"):
    """Which keys, in which version, stand in these leaves of a partition's tree, in order of store key, after `after`. `recompute`: these
    leaves differ though their keys do not, so sum them up anew."""

    placement: PlacementName
    partition: Partition
    leaves: TreeNodes
    after: StoreKey = b""
    recompute: bool = False


class OutlinesRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="outlines"):
    """The objects of these keys without their values: what a merge would look at."""

    placement: PlacementName
    keys: Annotated[list[WholeStoreKey], msgspec.Meta(max_length=OUTLINES_MAX)]


class PullRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="pull"):
    """The objects of these keys, as many as fit into `bytes_max`, and one in any case."""

    placement: PlacementName
    keys: Annotated[list[WholeStoreKey], msgspec.Meta(min_length=1, max_length=MERGE_ENTRIES_MAX)]
    bytes_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


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


class StatusReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="status"):
    """`state`: waiting (knows of no cluster), starting (still dialling, or fewer members are up than the defaults for R and W need),
    ready, read-only (its disk failed), draining. `statistics` holds groups by name, each a map of figures whose names end in their unit."""

    node_id: Id16
    address: str
    host: str
    zone: str
    state: Literal["waiting", "starting", "ready", "read-only", "draining"]
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


class GossipReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="gossip"):
    """`digest` of the answering node's history; all its `ids` when the digests differed and nothing was given or wanted; the `records`
    that were wanted."""

    digest: Id16
    ids: Ids | None = None
    records: Records = []


class BirthReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="birth"):
    """Whom the birth still waits for; nobody once the cluster is born, and then `records` is its history."""

    waiting_for: list[str] = []
    records: Records = []


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


class MergeReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="merge"):
    """Sent after fdatasync. Per entry, in order, what became of it as (status, hash): OK and the hash of what is held now, or why it
    was not merged, and 0. The merge kept the node from everything else for `stalled_us`; it has `share` of its time for such work."""

    results: Annotated[list[tuple[int, int]], msgspec.Meta(max_length=MERGE_ENTRIES_MAX)]
    stalled_us: Annotated[int, msgspec.Meta(ge=0)]
    share: Annotated[float, msgspec.Meta(gt=0.001, le=1.0)] = 0.5


class CompareReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="compare"):
    """The partitions whose roots here are others. Where single partitions were asked about, those that may be brought in line now; `busy`
    are those that differ and are being brought in line with somebody else."""

    differing: Annotated[list[Partition], msgspec.Meta(max_length=65536)] = []
    busy: Annotated[list[Partition], msgspec.Meta(max_length=65536)] = []


class TreeReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="tree"):
    """8 little-endian bytes for each descendant, in the order of the nodes asked for."""

    hashes: bytes


class EntriesReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="entries"):
    """For each key its store key (24 bytes) and Merkle hash (8 little-endian). The last one is the `after` of the next page; `done`: there
    is none."""

    entries: Annotated[bytes, msgspec.Meta(max_length=32 * LISTED_MAX)]
    done: bool


class OutlinesReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="outlines"):
    """In the order of the keys, empty for what is not here. Fewer than were asked for: ask for the rest again."""

    outlines: Annotated[list[bytes], msgspec.Meta(max_length=OUTLINES_MAX)]


class PullReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="pull"):
    """What there is of the first `answered` keys, as (bucket, key, object); `share` as in MergeReply."""

    entries: ObjectEntries
    answered: Annotated[int, msgspec.Meta(ge=1, le=MERGE_ENTRIES_MAX)]
    share: Annotated[float, msgspec.Meta(gt=0.001, le=1.0)] = 0.5


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


class ForgetCheckReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="forget_check"):
    """A byte for each version: 1 held, 0 not."""

    held: bytes


class QuiesceReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="quiesce"):
    token: int
    done: bool


class StraysReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="strays"):
    partitions: list[int]


class ForgetReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="forget"):
    """How many versions were removed, and of how many the clock was settled."""

    reaped: int
    settled: int


Request = (
    PlacementRequest | StatusRequest | RingInfoRequest | GossipRequest | BirthRequest
    | BucketSetRequest | BucketListRequest | KeysPageRequest | MergeRequest | HintsRequest
    | ForgetCheckRequest | QuiesceRequest | StraysRequest | ForgetRequest
    | CompareRequest | TreeRequest | EntriesRequest | OutlinesRequest | PullRequest | RepairRequest
)  # fmt: skip
Reply = (
    PlacementReply | StatusReply | RingInfoReply | GossipReply | BirthReply
    | BucketSetReply | BucketListReply | KeysPageReply | MergeReply | HintsReply
    | ForgetCheckReply | QuiesceReply | StraysReply | ForgetReply
    | CompareReply | TreeReply | EntriesReply | OutlinesReply | PullReply | RepairReply
)  # fmt: skip

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_hello = msgspec.msgpack.Decoder(Hello)
_hello_reply = msgspec.msgpack.Decoder(HelloReply)
_request: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Hello | HelloReply | Request | Reply) -> bytes:
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


def decode_request(body: bytes) -> Request:
    return _decode(_request, "control request", body)


def decode_reply(body: bytes) -> Reply:
    return _decode(_reply, "control reply", body)
