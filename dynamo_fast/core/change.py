"""How a cluster goes from one placement to the next without a read that misses a write: six steps and a barrier between any two.

Call the placement that goes O and the one that comes C. A node *does* a step, and *tells* of it (gossip carries what is told) once it has
done what the step asks and every request that it began before the step is over. A node does a step only when everybody needed has told
of the one before: all nodes of O or C but those that were declared dead. So what any two nodes do is at most one step apart.

  step       what this node does from then on                                   it tells of it when
  KNOWN      writes go to the homes in O, reads to the homes in O               it has C's table on disk
  DOUBLE     writes want W answers in O and W in C, reads go to O               its older requests are over
  SYNCED     brings what it gains up to date from all homes in O                that is done, and on disk
  SWITCHED   writes still go to both, reads go to C                             its older requests are over
  SINGLE     writes and reads go to C                                           its older requests are over
  SETTLED    C is all there is; copies of what is no longer its own go          at once

Why a strict read with R + W > N never misses an acknowledged write. A write is coordinated by a node that does KNOWN (in O), DOUBLE, SYNCED
or SWITCHED (in both) or SINGLE (in C); a read by one that does at most SYNCED (in O) or at least SWITCHED (in C).
  Reads in O: somebody does SYNCED at most, so nobody does SINGLE: every write acknowledged so far has W in O.
  Reads in C: somebody does SWITCHED, so all have told of SYNCED. A write with W in C, alone or not, is no matter. One with W in O alone
  was coordinated by a node that did KNOWN, and was over when that node told of DOUBLE; whoever gains the partition began to bring it up
  to date after all had told of DOUBLE, from all homes in O, so it holds whatever any of them held then; a home in both keeps what it
  has. So each of the write's W homes in O is a home in C that holds it, or has given way to one that has taken it over; where fewer
  homes are left than there were, all that are left take over what those that go have (succession.gains).

A node that restarts goes on from the last step of which it has told, which is on its disk before it is told. What it did of the next one is
undone, and no other node did more than that next one: the same two cases.

A member declared dead is not waited for. Its word may have counted in a barrier passed before; its connections are closed by whoever learns
that it is dead, so what is told afterwards is told anew with `dead`, the digest of those known to be dead, and counts only for who knows
the same: no request of the dead one can be merged any more when a barrier is passed without it.

Of two placements announced for one parent the smaller digest counts (lineage.py), and who has told of steps towards the other begins
anew; but a placement is *pinned* once anybody needed has told of SYNCED towards it: it counts, whatever else was announced. Only one can
be: whoever tells of SYNCED has heard DOUBLE towards it from all, himself included, and goes to no other one any more; so no other one
can hear DOUBLE from all. And nobody reads in C before all have told of SYNCED: what is not pinned has not been read from.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from enum import IntEnum
from typing import Annotated

import msgspec

from dynamo_fast.core.digest import md5

Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Step(IntEnum):
    """The steps of a change, in order."""

    NONE = 0
    KNOWN = 1
    DOUBLE = 2
    SYNCED = 3
    SWITCHED = 4
    SINGLE = 5
    SETTLED = 6


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """What a node has told of itself. The later word of a node replaces the earlier one."""

    node_id: Id
    word: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]  # counts what this node has told, from 1
    placement: Id  # the digest of the placement that comes, or of the one that is settled
    step: Annotated[int, msgspec.Meta(ge=0, le=15)]  # what it has told of
    dead: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]  # digest of those it knows to be dead


def digest_of_dead(dead: Iterable[bytes]) -> bytes:
    """8 bytes, equal for two nodes that know the same members to be dead."""
    return md5(b"".join(sorted(dead)))[:8]


def merge_progress(known: dict[bytes, Progress], told: Iterable[Progress]) -> bool:
    """Takes in what was told; whether anything of it was news. By node, the latest word stays."""
    news = False
    for one in told:
        if one.node_id not in known or known[one.node_id].word < one.word:
            known[one.node_id] = one
            news = True
    return news


def pinned_by(progress: Mapping[bytes, Progress], dead: Container[bytes]) -> set[bytes]:
    """The digests of placements that count whatever else was announced."""
    return {one.placement for one in progress.values() if one.step >= Step.SYNCED and one.node_id not in dead}


def waited_for(step: Step, placement: bytes, needed: Iterable[bytes], progress: Mapping[bytes, Progress], dead: bytes) -> list[bytes]:
    """Who of those needed has not told of that step towards the placement with this digest; sorted."""

    def told(node_id: bytes) -> bool:
        one = progress.get(node_id)
        return one is not None and one.placement == placement and one.step >= step and one.dead == dead

    return sorted(node_id for node_id in needed if not told(node_id))


def step_to_do(placement: bytes, needed: Iterable[bytes], progress: Mapping[bytes, Progress], dead: bytes) -> Step:
    """The last step that may be done: the one after what everybody needed has told of. Who has settled has seen all get there."""
    needed = list(needed)
    if any(one.placement == placement and one.step == Step.SETTLED for one in progress.values()):
        return Step.SETTLED
    done = Step.NONE
    while done < Step.SINGLE and not waited_for(Step(done + 1), placement, needed, progress, dead):
        done = Step(done + 1)
    return Step(done + 1)
