"""Which destructive faults are fair: no more than the promises tolerate between two moments at which all copies are whole again.

A write that was acknowledged with W copies, DW of them on disk, survives when a disk is left that had it, or a page cache:

    DW > disks destroyed    or    W > machines whose disk was destroyed or whose power was cut

A cut of power takes what was not synced, a destroyed disk takes everything. The guard keeps count and says no; a run whose faults it did
not ration would find losses that nobody promised to prevent.
"""

from __future__ import annotations

from collections.abc import Iterable


class Guard:
    """`promises`: (W, DW) of every kind of write that the run makes, W the larger of what was asked for as W and DW."""

    def __init__(self, promises: Iterable[tuple[int, int]]) -> None:
        self._promises = sorted(set(promises))
        self.darkened: set[str] = set()  # machines that lost what was not synced
        self.destroyed: set[str] = set()  # machines that lost what was
        self.lost: set[str] = set()  # of those destroyed, the machines that do not come back
        self.refused = 0
        self.lossless = True  # nothing was ever lost anywhere, so that strict reads must be regular

    def may_darken(self, machine: str) -> bool:
        """Asks for a cut of power, or anything else that takes what was not synced; True: it is noted, go on."""
        return self._note(self.darkened | {machine}, self.destroyed)

    def may_destroy(self, machine: str) -> bool:
        """Asks for a fault that takes records from a disk."""
        return self._note(self.darkened, self.destroyed | {machine})

    def may_lose(self, machine: str) -> bool:
        """Asks for the end of a machine, with its disk; one at a time, whatever the promises are."""
        if self.lost or not self._note(self.darkened, self.destroyed | {machine}):
            return False
        self.lost = {machine}
        return True

    def healed(self) -> None:
        """Every home holds everything, on disk."""
        self.darkened, self.destroyed, self.lost = set(), set(), set()

    def _note(self, darkened: set[str], destroyed: set[str]) -> bool:
        hit = len(darkened | destroyed)
        if not all(dw > len(destroyed) or w > hit for w, dw in self._promises):
            self.refused += 1
            return False
        self.darkened, self.destroyed, self.lossless = darkened, destroyed, False
        return True
