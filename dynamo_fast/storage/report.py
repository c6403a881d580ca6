"""What an engine found when it was opened, and when it looked at a leaf again: for log lines, and for the node's trust in its own data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class RecoveryReport:
    """What recovery did. A partition in `suspects` may lack acknowledged records, and must be synced from its other homes."""

    records: int  # of the log, removals included, taken into the write buffer
    skipped: int  # of the log, in LMDB already
    log_bytes: int  # read
    torn_bytes: int  # cut off the end: writes that no power cut had let reach the disk, and that nobody was told are durable
    rot_records: int  # damaged below the durable position, or unreadable; one stands for each stretch without a readable header
    suspects: frozenset[int]  # partitions of rot_records, all when a header was lost or the tail may be; and those of before
    unclean: bool  # the last process did not close the engine
    same_boot: bool  # the kernel has run ever since, so an unclean end cannot have lost what was written
    seconds: float

    @property
    def tail_may_be_lost(self) -> bool:
        """Whether writes that were acknowledged with DW=0 may be gone."""
        return self.unclean and not self.same_boot


class LeafFindings(NamedTuple):
    """What `recompute` found in one leaf; anything but records makes the partition suspect."""

    records: int = 0  # that can be read, of buffer and LMDB together
    unreadable: int = 0  # in LMDB: wrong checksums, or pages that cannot be read
    misplaced: int = 0  # in LMDB under the store key of another; they are removed
    wrong_hash: int = 0  # whose hash is not that of their object
    corrected: bool = False  # the forest's leaf was not the sum of the records, and is now
    repair: bool = False  # LMDB's leaf was not, and will be
