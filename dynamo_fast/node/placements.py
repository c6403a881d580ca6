"""The placements that this node knows the tables of: on its disk, computed from their parents, or fetched from whoever has them.

A placement never changes once it was announced, so a table is right when it has the digest that its record names, wherever it comes
from. As a rule every node computes it; one that has just joined has no parent to compute it from, and one of an older version has other
rules.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dynamo_fast.core.lineage import PlacementRecord
from dynamo_fast.core.membership import ClusterView, History, Roster, in_time, read_change
from dynamo_fast.core.placement import ALGORITHM, Placement, PlacementError
from dynamo_fast.core.succession import placement_after
from dynamo_fast.env import Env
from dynamo_fast.node.identity import DataDirectory, DirectoryRefused

FILE = "placements"


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A placement on disk; `table` as in Placement.table_bytes."""

    record: PlacementRecord
    replicas: int
    node_ids: tuple[bytes, ...]
    table: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Stored])


class Placements:
    """By digest. What is `kept` is on disk, what was merely looked at is in memory until something else is kept."""

    def __init__(self, directory: DataDirectory, env: Env) -> None:
        self._directory = directory
        self._env = env
        self._known: dict[bytes, Placement] = {}
        self.kept = self._load()

    def _load(self) -> tuple[Placement, ...]:
        """What was kept last; DirectoryRefused when the file is damaged."""
        data = self._directory.read(FILE)
        if data is None:
            return ()
        try:
            kept = tuple(Placement.from_table(one.record, one.replicas, one.node_ids, one.table) for one in _decoder.decode(data))
        except (msgspec.DecodeError, PlacementError) as error:
            path = self._directory.path / FILE
            raise DirectoryRefused(f"{path} is damaged: {error}; remove it, and the node fetches it from the others") from error
        self._known = {one.digest: one for one in kept}
        return kept

    async def keep(self, placements: Iterable[Placement]) -> None:
        """These are on disk when it returns, and no others are remembered."""
        kept = tuple(placements)
        if [one.digest for one in kept] != [one.digest for one in self.kept]:
            await self._env.offload(self._save, kept)
            self.kept = kept
            self._known = {one.digest: one for one in kept}

    def _save(self, kept: tuple[Placement, ...]) -> None:
        stored = [Stored(one.record, one.replicas, one.node_ids, one.table_bytes()) for one in kept]
        self._directory.write(FILE, _encoder.encode(stored))

    def of(self, digest: bytes) -> Placement | None:
        return self._known.get(digest)

    def note(self, placement: Placement) -> None:
        self._known[placement.digest] = placement

    async def compute(self, record: PlacementRecord, chain: Iterable[PlacementRecord], history: History) -> Placement | None:
        """The placement of that record, from its parent; None when this node does not have what it follows from, or has other rules.

        `chain`: the records from the first placement to the parent.
        """
        parent = self._known.get(record.parent_digest)
        view = history.view
        changes = history.records_of(record.changes)
        if parent is None or view is None or record.algorithm != ALGORITHM or len(changes) != len(record.changes):
            return None
        roster = roster_of(view, chain, history)
        try:
            placement, _ = await self._env.offload(placement_after, parent, roster, changes, view.replicas)
        except PlacementError:
            return None
        if placement.digest != record.digest:
            return None
        self.note(placement)
        return placement


def roster_of(view: ClusterView, chain: Iterable[PlacementRecord], history: History) -> Roster:
    """The members of the last placement of a chain, as they were when it was made."""
    roster = Roster({member.id: member for member in view.first_members})
    for record in chain:
        roster = roster.after(read_change(one) for one in in_time(history.records_of(record.changes)))
    return roster
