"""CONTROL messages between members about the objects they hold: moving, comparing and forgetting them.

All carry the name of the placement that the asker works by: in another one the asked may be no home.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from dynamo_fast.wire.fields import BucketName, Partition, PlacementName, StoreKey, WholeStoreKey

MERGE_ENTRIES_MAX = 1024  # objects, or keys, in one message
OUTLINES_MAX = 256  # outlines in one message
LISTED_MAX = 1024  # keys with their hashes in one message
NODES_MAX = 256  # nodes of trees in one message
LEAVES_MAX = 512  # leaves of trees in one message

Versions = Annotated[bytes, msgspec.Meta(max_length=32 * 4096)]
PartitionRoots = Annotated[bytes, msgspec.Meta(max_length=8 * 65536)]
TreeNode = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
ObjectKey = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]
ObjectEntries = Annotated[list[tuple[BucketName, ObjectKey, bytes]], msgspec.Meta(max_length=MERGE_ENTRIES_MAX)]


class MergeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="merge"):
    """Between members: merge these (bucket, key, object) into your copies, and answer when they are on disk. The sender works by that
    placement. What bounds an object is the frame."""

    placement: PlacementName
    entries: ObjectEntries


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
    durable: bool = False  # answer when all that you have merged by now is on your disk


class TreeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="tree"):
    """The hashes of the descendants, `depth` levels below, of these nodes of a level of the Merkle trees. The nodes of a level are counted
    through the trees of all partitions: those of partition p from p * 2^level on."""

    placement: PlacementName
    level: Annotated[int, msgspec.Meta(ge=0, le=16)]
    nodes: Annotated[list[TreeNode], msgspec.Meta(min_length=1, max_length=NODES_MAX)]
    depth: Annotated[int, msgspec.Meta(ge=1, le=8)]


class EntriesRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="entries"):
    """Which keys, in which version, stand in these leaves, counted as in TreeRequest, in order of store key, after `after`. `recompute`:
    these leaves differ though their keys do not, so sum them up anew."""

    placement: PlacementName
    leaves: Annotated[list[TreeNode], msgspec.Meta(min_length=1, max_length=LEAVES_MAX)]
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


class StepReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op"):
    """An answer to a step of background work: for so long the node wants no more of them, 0 while it has nothing else to do."""

    pause_us: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class MergeReply(StepReply, frozen=True, kw_only=True, tag="merge"):
    """Sent after fdatasync. Per entry, in order, what became of it as (status, hash): OK and the hash of what is held now, or why it
    was not merged, and 0. The merge kept the node from everything else for `stalled_us`."""

    results: Annotated[list[tuple[int, int]], msgspec.Meta(max_length=MERGE_ENTRIES_MAX)]
    stalled_us: Annotated[int, msgspec.Meta(ge=0)]


class CompareReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="compare"):
    """The partitions whose roots here are others. Where single partitions were asked about, those that may be brought in line now; `busy`
    are those that differ and are being brought in line with somebody else."""

    differing: Annotated[list[Partition], msgspec.Meta(max_length=65536)] = []
    busy: Annotated[list[Partition], msgspec.Meta(max_length=65536)] = []


class TreeReply(StepReply, frozen=True, kw_only=True, tag="tree"):
    """8 little-endian bytes for each descendant, in the order of the nodes asked for."""

    hashes: bytes


class EntriesReply(StepReply, frozen=True, kw_only=True, tag="entries"):
    """For each key its store key (24 bytes) and Merkle hash (8 little-endian). The last one is the `after` of the next page; `done`: there
    is none."""

    entries: Annotated[bytes, msgspec.Meta(max_length=32 * LISTED_MAX)]
    done: bool


class OutlinesReply(StepReply, frozen=True, kw_only=True, tag="outlines"):
    """In the order of the keys, empty for what is not here. Fewer than were asked for: ask for the rest again."""

    outlines: Annotated[list[bytes], msgspec.Meta(max_length=OUTLINES_MAX)]


class PullReply(StepReply, frozen=True, kw_only=True, tag="pull"):
    """What there is of the first `answered` keys, as (bucket, key, object)."""

    entries: ObjectEntries
    answered: Annotated[int, msgspec.Meta(ge=1, le=MERGE_ENTRIES_MAX)]


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


class RangeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="range"):
    """All objects of a partition in order of store key, from behind `after`: as many as fit into `bytes_max`, and one in any case."""

    placement: PlacementName
    partition: Partition
    after: StoreKey = b""
    bytes_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class RangeReply(StepReply, frozen=True, kw_only=True, tag="range"):
    """A page of objects, back to back (wire/object_page.pyx). All up to and including store key `last` has been told; `done`: and that is
    all there is."""

    objects: bytes
    last: StoreKey
    done: bool


ReplicaRequest = (
    MergeRequest | PullRequest | RangeRequest | CompareRequest | TreeRequest | EntriesRequest | OutlinesRequest
    | ForgetCheckRequest | QuiesceRequest | StraysRequest | ForgetRequest
)  # fmt: skip
ReplicaReply = (
    MergeReply | PullReply | RangeReply | CompareReply | TreeReply | EntriesReply | OutlinesReply
    | ForgetCheckReply | QuiesceReply | StraysReply | ForgetReply
)  # fmt: skip
