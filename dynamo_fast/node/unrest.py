"""Whether what a node knows of its cluster is settled; while it is not, nothing is forgotten.

Forgetting (forgetting.py) is safe because all homes agree on a version, nothing older is under way between members, and nobody keeps
anything older as a hint. Why that stays true when members change: every node refuses each of its four steps while it knows of anything
that is not settled, which is a change under way, one that is to come, or somebody who has left and is still about. So all members that
agreed in 1 and 3 worked by one placement, the one that all name, and knew of no other.
  * Who has left and still holds something is asked by nobody, as it is no member any more; so it must be gone first. It says that it is
    when it holds nothing, and whoever knows that listens to it no more. Who was declared dead may hold anything, and is listened to no
    more by whoever knows that; who does not know it either works by an older placement, or sees somebody who is leaving.
  * Who joins is empty, and fetches from homes after all of them have told that they know of the change. A home that knows of it refuses
    4, so whatever is fetched was dropped before, or is the version agreed on in 1, which supersedes all that is old. And homes that have
    dropped it get it back from those that have not.
  * Who was a home before the last change may hold records there, old copies, until it has parted with them. They may be old. They are
    found in 3 like hints: a record of a partition in which this node is no home is a stray, whatever it is kept for.
  * A request of 4 that arrives late, when the members have changed, names a placement that is not in force any more.
"""

from __future__ import annotations

from dynamo_fast.core.lineage import PlacementRecord
from dynamo_fast.node.cluster import Cluster


def unrest(cluster: Cluster) -> str | None:
    """Why nothing may be forgotten now: what this node knows of its cluster is not settled. None when it is."""
    view, placement = cluster.view, cluster.placement
    if view is None or placement is None:
        return "no cluster is known"
    if cluster.change is not None:
        return "the members are changing"
    if view.leaving:
        return f"member {min(view.leaving).hex()} has left and is still about"
    announced = {record.digest: record for record in view.announced}
    left = set(view.member_changes)
    record: PlacementRecord | None = placement.record
    while record is not None and left:
        left.difference_update(record.changes)
        record = announced.get(record.parent_digest)
    return "the members are about to change" if left else None
