"""Who belongs to the cluster and what its buckets are: a history of change records (paper sections 4.8.1 and 4.8.2).

A history is a set. Each record has an id that is the hash of its content and a hybrid timestamp; two histories merge by union, so
nodes that exchange records in any order, any number of times, end with the same set and read the same state from it. State is read by
applying records in order of (time, id), except that a departure always wins: an id that ever left never returns. A machine stands in
one zone, so what is said of a host holds for all its members, and who joins on a known host is where that host is.

A record of a kind this version does not know is kept, passed on and counted, so that a cluster may run two versions side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from dynamo_fast.core.lineage import PlacementRecord
from dynamo_fast.core.options import BucketSettings

Id16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Name = Annotated[str, msgspec.Meta(max_length=255)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=65535)]

CHANGE_BYTES_MAX = 1 << 20  # the largest change, a birth with some thousands of members
RECORDS_MAX = 1 << 20  # a history longer than this is refused rather than held
TIME_COUNTER_BITS = 16  # the low bits of a hybrid timestamp; the rest are milliseconds since 1970
PERSISTED_MAGIC = b"dynamo-fast history 1\n"


class HistoryError(ValueError):
    """Bytes that are no history, or records that contradict each other."""


class ForeignHistoryError(HistoryError):
    """Records of another cluster; merging them would join two clusters that know nothing of each other."""


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One member. `host` names the machine (replicas avoid sharing it), `zone` the data centre, `weight` the share of data, 1..65535."""

    id: Id16
    address: Name
    host: Name
    zone: Name = ""
    weight: Weight = 100


class Birth(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="birth"):
    """The one record that makes a cluster: its secrets, its fixed numbers, its first members and the placement they imply."""

    cluster_id: Id16
    mac_key: Id16
    partitions: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    replicas: Annotated[int, msgspec.Meta(ge=1, le=16)]
    members: Annotated[list[NodeEntry], msgspec.Meta(min_length=1, max_length=4096)]
    placement_algorithm: int
    placement_digest: Id16


class Join(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="join"):
    """A node becomes a member."""

    member: NodeEntry


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="leave"):
    """A node departs for ever; its machine may come back under a new id. `dead`: it is not waited for, and what it holds is given up."""

    node_id: Id16
    dead: bool = False


class Replace(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="replace"):
    """A node takes the places of another, which departs for ever; `dead` as in Leave."""

    old: Id16
    member: NodeEntry
    dead: bool = False


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="gone"):
    """A node that has left says that it holds nothing any more: nobody has to listen to it from now on."""

    node_id: Id16


class Announce(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="announce"):
    """A placement that takes in changes of members follows another one (lineage.py)."""

    placement: PlacementRecord


class WeightChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="weight"):
    """A member is to hold another share of the data from now on."""

    node_id: Id16
    weight: Weight


class ZoneChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="zone"):
    """A machine, with all its members, now counts as part of another zone."""

    host: Name
    zone: Name


class AddressChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="address"):
    """A member is now found elsewhere; it stays the same member."""

    node_id: Id16
    address: Name


class BucketChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="bucket"):
    """A bucket has these settings from now on; the latest record for a name holds as a whole."""

    name: Annotated[bytes, msgspec.Meta(max_length=64)]
    settings: BucketSettings


Change = Birth | Join | Leave | Replace | WeightChange | ZoneChange | AddressChange | BucketChange | Gone | Announce
MemberChange = Join | Leave | Replace | WeightChange | ZoneChange  # what asks for another placement


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One change as it is stored and exchanged: `id` is the first of its fields' hash, `time` a hybrid timestamp, `author` a node id."""

    id: Id16
    time: Annotated[int, msgspec.Meta(ge=0)]
    author: Id16
    change: Annotated[bytes, msgspec.Meta(max_length=CHANGE_BYTES_MAX)]


class Roster(msgspec.Struct, frozen=True):
    """Who is a member, as what, and whose id may never be one again."""

    members: dict[bytes, NodeEntry]
    departed: frozenset[bytes] = frozenset()

    def after(self, changes: Iterable[Change | None]) -> Roster:
        """What becomes of it through these changes, which apply in the order given; departures apply first."""
        changes = list(changes)
        gone = {change.node_id if isinstance(change, Leave) else change.old for change in changes if isinstance(change, Leave | Replace)}
        departed = self.departed | gone
        members = {member.id: member for member in self.members.values() if member.id not in departed}
        for change in changes:
            if isinstance(change, Join | Replace) and change.member.id not in departed:
                host = next((member for member in members.values() if member.host == change.member.host), change.member)
                members.setdefault(change.member.id, msgspec.structs.replace(change.member, zone=host.zone))
            elif isinstance(change, AddressChange) and change.node_id in members:
                members[change.node_id] = msgspec.structs.replace(members[change.node_id], address=change.address)
            elif isinstance(change, WeightChange) and change.node_id in members:
                members[change.node_id] = msgspec.structs.replace(members[change.node_id], weight=change.weight)
            elif isinstance(change, ZoneChange):
                for member in [member for member in members.values() if member.host == change.host]:
                    members[member.id] = msgspec.structs.replace(member, zone=change.zone)
        return Roster(members, departed)

    def heirs(self, changes: Iterable[Change | None]) -> dict[bytes, bytes]:
        """By the id of a member that these changes replace, that of the new one; the first one where several were named."""
        after = self.after(changes := list(changes))
        heirs: dict[bytes, bytes] = {}
        for change in changes:
            if isinstance(change, Replace) and change.old in self.members and change.old not in heirs:
                new = change.member.id
                if new in after.members and new not in self.members and new not in heirs.values():
                    heirs[change.old] = new
        return heirs


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """What a history says, once it holds a birth. `members` are those not departed; `first_members` those of the birth."""

    cluster_id: bytes
    mac_key: bytes
    partitions: int
    replicas: int
    placement_algorithm: int
    placement_digest: bytes
    first_members: tuple[NodeEntry, ...]
    members: dict[bytes, NodeEntry]
    departed: frozenset[bytes]
    dead: frozenset[bytes]  # of the departed, those that nobody waits for or listens to: declared dead, or gone
    everyone: dict[bytes, NodeEntry]  # all that are or ever were members, as last known
    announced: tuple[PlacementRecord, ...]  # all but the first
    member_changes: tuple[bytes, ...]  # ids of the records that change members, in order
    buckets: dict[bytes, BucketSettings]

    @property
    def leaving(self) -> frozenset[bytes]:
        """Those that have departed and are still about, to hand over what they hold."""
        return self.departed - self.dead


_change_encoder = msgspec.msgpack.Encoder()
_change_decoder: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
_records_decoder = msgspec.msgpack.Decoder(list[Record])


def hybrid_time(last: int, wall_ms: int) -> int:
    """A timestamp later than `last` and no earlier than the wall clock: it never goes back even where the clock does."""
    return max(last + 1, wall_ms << TIME_COUNTER_BITS)


def record_id(time: int, author: bytes, change: bytes) -> bytes:
    """The id of a record: the same content anywhere has the same id, so union needs no rule for conflicts."""
    return hashlib.md5(time.to_bytes(16, "little") + author + change, usedforsecurity=False).digest()


def make_record(change: Change, *, author: bytes, time: int) -> Record:
    body = _change_encoder.encode(change)
    return Record(record_id(time, author, body), time, author, body)


def in_time(records: Iterable[Record]) -> list[Record]:
    """Records in the order in which they apply."""
    return sorted(records, key=lambda record: (record.time, record.id))


def read_change(record: Record) -> Change | None:
    """The change inside, or None when it is of a kind or shape that this version does not know."""
    try:
        return _change_decoder.decode(record.change)
    except msgspec.DecodeError:  # ValidationError included: a newer kind, kept and passed on
        return None


class History:
    """A growing set of change records and the view it gives. Never shrinks, never holds two births."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[bytes, Record] = {}
        self._changes: dict[bytes, Change | None] = {}  # by record id, as read; None: of a kind that this version does not know
        self._ordered: list[Record] = []
        self._birth: bytes | None = None
        self._departures: dict[bytes, list[Record]] = {}  # of the dead of the view
        self._digest = hashlib.md5(usedforsecurity=False).digest()
        self._view: ClusterView | None = None
        self.unknown_count = 0  # records of kinds that this version does not know
        self.merge(records)

    def copy(self) -> History:
        """Another history of the same records, which have been checked already."""
        made = History()
        made._records, made._changes, made._ordered = dict(self._records), dict(self._changes), self._ordered
        made._birth, made._departures, made._digest = self._birth, self._departures, self._digest
        made._view, made.unknown_count = self._view, self.unknown_count
        return made

    def __len__(self) -> int:
        return len(self._records)

    @property
    def digest(self) -> bytes:
        """16 bytes, equal on two nodes exactly when their histories are."""
        return self._digest

    @property
    def view(self) -> ClusterView | None:
        """The cluster as this history tells it; None before its birth is known."""
        return self._view

    @property
    def records(self) -> Sequence[Record]:
        """All records, in the order in which they apply."""
        return self._ordered

    @property
    def last_time(self) -> int:
        return self._ordered[-1].time if self._ordered else 0

    def merge(self, records: Iterable[Record]) -> list[Record]:
        """Adds what is new and returns it; nothing is added when any record is refused (HistoryError, ForeignHistoryError)."""
        new = {record.id: record for record in records if record.id not in self._records}
        birth = self._birth
        changes: dict[bytes, Change | None] = {}
        for record in new.values():
            if record_id(record.time, record.author, record.change) != record.id:
                raise HistoryError(f"change record {record.id.hex()} does not hold what its id says")
            changes[record.id] = read_change(record)
            if isinstance(changes[record.id], Birth):
                if birth is not None:
                    raise ForeignHistoryError("the records tell of the birth of another cluster")
                birth = record.id
        if len(self._records) + len(new) > RECORDS_MAX:
            raise HistoryError(f"a history of more than {RECORDS_MAX} records")
        if new:
            self._birth = birth
            self._records.update(new)
            self._changes.update(changes)
            self._ordered = in_time(self._records.values())
            self._digest = hashlib.md5(b"".join(sorted(self._records)), usedforsecurity=False).digest()
            self._read()
        return list(new.values())

    def ids(self) -> list[bytes]:
        return [record.id for record in self._ordered]

    def records_not_in(self, ids: Iterable[bytes]) -> list[Record]:
        """What somebody who holds exactly `ids` lacks, in order."""
        held = set(ids)
        return [record for record in self._ordered if record.id not in held]

    def ids_lacking(self, ids: Iterable[bytes]) -> list[bytes]:
        """Which of `ids` are not here."""
        return [one for one in ids if one not in self._records]

    def records_of(self, ids: Iterable[bytes]) -> list[Record]:
        """The records of those ids that are here."""
        return [self._records[one] for one in ids if one in self._records]

    def departure(self, node_id: bytes) -> list[Record]:
        """The records by which that node is dead, in the sense of the view: one or two; none when it is not."""
        return self._departures.get(node_id, [])

    def _read(self) -> None:
        changes = [self._changes[record.id] for record in self._ordered]
        self.unknown_count = changes.count(None)
        birth = next((change for change in changes if isinstance(change, Birth)), None)
        if birth is None:
            return
        roster = Roster({member.id: member for member in birth.members}).after(changes)
        everyone = {member.id: member for member in birth.members}
        everyone.update((change.member.id, change.member) for change in changes if isinstance(change, Join | Replace))
        moved = {change.node_id: change.address for change in changes if isinstance(change, AddressChange)}
        everyone.update(
            (node_id, msgspec.structs.replace(everyone[node_id], address=moved[node_id])) for node_id in moved.keys() & everyone.keys()
        )
        everyone.update(roster.members)
        self._departures = departures(zip(self._ordered, changes, strict=True))
        buckets = {change.name: change.settings for change in changes if isinstance(change, BucketChange)}
        self._view = ClusterView(
            cluster_id=birth.cluster_id, mac_key=birth.mac_key, partitions=birth.partitions, replicas=birth.replicas,
            placement_algorithm=birth.placement_algorithm, placement_digest=birth.placement_digest,
            first_members=tuple(birth.members), members=roster.members, departed=roster.departed,
            dead=frozenset(self._departures), everyone=everyone,
            announced=tuple(change.placement for change in changes if isinstance(change, Announce)),
            member_changes=tuple(
                record.id for record, change in zip(self._ordered, changes, strict=True) if isinstance(change, MemberChange)
            ),
            buckets=buckets,
        )  # fmt: skip


def departures(history: Iterable[tuple[Record, Change | None]]) -> dict[bytes, list[Record]]:
    """Whom nobody waits for or listens to any more, and by which records: one that declares it dead, or two by which it has left and is
    gone."""
    left: dict[bytes, Record] = {}
    gone: dict[bytes, Record] = {}
    declared: dict[bytes, list[Record]] = {}
    for record, change in history:
        if isinstance(change, Leave | Replace):
            node_id = change.node_id if isinstance(change, Leave) else change.old
            left.setdefault(node_id, record)
            if change.dead:
                declared.setdefault(node_id, [record])
        elif isinstance(change, Gone):
            gone.setdefault(change.node_id, record)
    return {node_id: [left[node_id], gone[node_id]] for node_id in left.keys() & gone.keys()} | declared


def encode_history(history: History) -> bytes:
    """The form on disk: a magic line with the format's number, MD5 of the rest, the records in order."""
    body = _change_encoder.encode(history.records)
    return PERSISTED_MAGIC + hashlib.md5(body, usedforsecurity=False).digest() + body


def decode_history(data: bytes) -> History:
    """Reads what `encode_history` wrote; HistoryError for anything else, a damaged file included."""
    magic, digest, body = data[: len(PERSISTED_MAGIC)], data[len(PERSISTED_MAGIC) :][:16], data[len(PERSISTED_MAGIC) + 16 :]
    if magic != PERSISTED_MAGIC:
        raise HistoryError("not a membership history, or one of a newer format")
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        raise HistoryError("the membership history is damaged: its checksum does not match")
    try:
        return History(_records_decoder.decode(body))
    except msgspec.DecodeError as error:
        raise HistoryError(f"the membership history cannot be read: {error}") from error
