"""What one node of the core tier knows of the members, and what it makes of that: as `node/succession.py` and `node/cluster.py` do it,
with the same decisions (core/change.py, core/lineage.py, core/succession.py), without trio, a disk or messages of their own.

A table is always to be had: all nodes look up in one place what any of them has computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from dynamo_fast.core.change import Progress, Step, digest_of_dead, merge_progress, pinned_by, step_to_do
from dynamo_fast.core.lineage import Lineage, PlacementRecord, settle
from dynamo_fast.core.membership import Announce, Change, ClusterView, History, Record, hybrid_time, make_record
from dynamo_fast.core.placement import Placement, PlacementError
from dynamo_fast.core.succession import placement_after
from dynamo_fast.node.placements import roster_of
from dynamo_fast.node.succession import first_record, needed_for
from dynamo_fast.testing.planes import Works

Tables = dict[bytes, Placement]  # by digest


@dataclass
class Known:
    """What a node has on its disk: all that it has heard, and by what it worked last. `word`: its own last word, as it knows."""

    history: History
    placements: tuple[Placement, ...]  # one, or that which goes and that which comes
    progress: dict[bytes, Progress] = field(default_factory=dict)
    word: int = 0

    def copy(self) -> Known:
        return replace(self, history=self.history.copy(), progress=dict(self.progress))


class Member:
    """One node. `works`: by what it works since its process began or it looked last; `news`: it has heard something since."""

    def __init__(self, node_id: bytes, known: Known, tables: Tables) -> None:
        self.node_id, self.known, self.tables = node_id, known, tables
        self.asked: set[bytes] = set()  # the ids of changes that it was asked for
        self._lineage: tuple[ClusterView, set[bytes], Lineage] | None = None
        self.start()

    @property
    def view(self) -> ClusterView:
        view = self.known.history.view
        assert view is not None, "every node knows of the birth"
        return view

    def start(self) -> None:
        """A process begins: it goes on from the step that it has told of."""
        self.news = True
        old, *coming = self.known.placements
        self.works = Works(old, coming[0], self.told_of(coming[0])) if coming else Works(old)

    def _told(self, new: Placement) -> Progress | None:
        """Its own word on the way to that placement."""
        told = self.known.progress.get(self.node_id)
        return told if told is not None and told.placement == new.digest else None

    def told_of(self, new: Placement) -> Step:
        """The last step on the way to that placement that it has told of."""
        told = self._told(new)
        return Step.NONE if told is None else Step(told.step)

    def lineage(self) -> Lineage:
        view, pinned = self.view, pinned_by(self.known.progress, self.view.dead)
        if self._lineage is None or self._lineage[0] is not view or self._lineage[1] != pinned:
            self._lineage = view, pinned, settle([first_record(view), *view.announced], pinned)
        return self._lineage[2]

    def _settled(self, tip: PlacementRecord) -> bool:
        told = self.known.progress.values()
        return tip.number == 1 or any(one.placement == tip.digest and one.step == Step.SETTLED for one in told)

    # What it does -------------------------------------------------------------------------------------------------------------------

    def look(self) -> Works:
        """By what it is to work, as far as it knows."""
        if not self.news:
            return self.works
        self.news = False
        known, view, tip = self.known, self.view, self.lineage().chain[-1]
        new = self.tables[tip.digest]
        if self._settled(tip):
            return Works(new)
        old = self.tables[tip.parent_digest]
        needed = needed_for(old, new, view)
        if self.node_id not in needed:
            return self.works
        step = step_to_do(new.digest, needed, known.progress, digest_of_dead(view.dead))
        if step == Step.SETTLED:
            return Works(new)
        doing = self.works.step if self.works.new is not None and self.works.new.digest == new.digest else Step.NONE
        return Works(old, new, max(step, doing, self.told_of(new)))

    def work_by(self, works: Works) -> None:
        """The tables are on disk first."""
        self.works = works
        self.known.placements = (works.old,) if works.new is None else (works.old, works.new)

    def due(self) -> tuple[Progress, bool] | None:
        """The word that it owes the others, and whether it has told of that step before; None when they know how far it is."""
        old, new, step = self.works
        told, dead = self._told(old if new is None else new), digest_of_dead(self.view.dead)
        if new is None:
            if old.number == 1 or self.node_id not in old.node_ids or (told is not None and told.step == Step.SETTLED):
                return None
            return self._word(old, Step.SETTLED, dead), True
        if self.node_id not in needed_for(old, new, self.view):
            return None
        if told is None or told.step < step:
            return self._word(new, step, dead), False
        return None if told.dead == dead else (self._word(new, Step(told.step), dead), True)

    def _word(self, placement: Placement, step: Step, dead: bytes) -> Progress:
        return Progress(self.node_id, self.known.word + 1, placement.digest, step, dead)

    def tell(self, word: Progress) -> None:
        self.known.word, self.known.progress[self.node_id] = word.word, word
        self.news = True

    # What it hears ------------------------------------------------------------------------------------------------------------------

    def hear(self, other: Known) -> None:
        """Gossip: whatever the other one knows, this one knows now."""
        known = self.known
        if known.history.digest != other.history.digest:
            self.take(other.history.records_not_in(known.history.ids()))
        if known.progress == other.progress:
            return
        dead = self.view.dead
        self.news |= merge_progress(known.progress, (one for one in other.progress.values() if one.node_id not in dead))
        own = known.progress.get(self.node_id)
        if own is not None:
            known.word = max(known.word, own.word)

    def take(self, records: Iterable[Record]) -> None:
        self.known.history.merge(records)
        self.news = True
        for node_id in self.view.dead:
            self.known.progress.pop(node_id, None)

    def add(self, changes: Iterable[Change], wall_ms: int) -> list[bytes]:
        """The ids of the records that it makes of what was decided here."""
        records, time = [], self.known.history.last_time
        for change in changes:
            time = hybrid_time(time, wall_ms)
            records.append(make_record(change, author=self.node_id, time=time))
        self.take(records)
        return [one.id for one in records]

    # What comes next ----------------------------------------------------------------------------------------------------------------

    def untaken(self) -> list[bytes]:
        """The changes that no placement has taken in, in order."""
        taken = {change for record in self.lineage().chain for change in record.changes}
        return [one for one in self.view.member_changes if one not in taken]

    def announce(self, wall_ms: int, *, impatient: bool, few: bool) -> bool:
        """Announces the placement that takes in what waits, if that is to be done and is its business: when it was asked for any of it, or
        is out of patience. `few`: it takes in one change only."""
        view, lineage, untaken = self.view, self.lineage(), self.untaken()
        parent = self.works.old
        if self.works.new is not None or not untaken or parent.digest != lineage.chain[-1].digest:
            return False
        if self.node_id not in parent.node_ids or self.node_id in view.dead or not (impatient or self.asked.intersection(untaken)):
            return False
        taken = untaken[:1] if few else untaken
        roster = roster_of(view, lineage.chain, self.known.history)
        try:
            child, _ = placement_after(parent, roster, self.known.history.records_of(taken), view.replicas)
        except PlacementError:
            return False
        self.tables[child.digest] = child
        self.add([Announce(placement=child.record)], wall_ms)
        return True
