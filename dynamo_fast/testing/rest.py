"""Where everything is in a simulated cluster: what has to be in its place once it has come to rest.

Machines that were given up as dead count for nothing, whatever they hold; those that wait or have left must hold nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.members import members_of, newest_roster, newest_view


def well(cluster: Cluster) -> bool:
    """All processes run, take writes and are connected: one whose fsync failed restarts first."""
    living = [one for one in cluster.machines.values() if not one.destroyed]
    return cluster.ready() and all(one.up and one.engine.read_only is None for one in living)


def holding(cluster: Cluster, given_up: Collection[str]) -> dict[str, list[int]]:
    """By machine, the partitions of which it holds anything."""
    partitions = range(cluster.partitions)
    machines = [one for one in cluster.machines.values() if one.name not in given_up]
    return {one.name: [partition for partition in partitions if one.engine.holds(partition)] for one in machines}


def names_of_homes(cluster: Cluster) -> list[list[str]]:
    """By partition, the names of its homes."""
    return [[one.name for one in homes] for homes in cluster.homes_of_partitions()]


def strays(cluster: Cluster, given_up: Collection[str] = ()) -> list[str]:
    """The machines that hold records of which they are no home: hints, and copies that they have not parted with."""
    homes = names_of_homes(cluster)
    return [name for name, held in holding(cluster, given_up).items() if any(name not in homes[partition] for partition in held)]


def company(cluster: Cluster) -> list[Violation]:
    """No member is connected to one that has departed and is gone, or was declared dead."""
    found = []
    for machine in members_of(cluster.machines.values()):
        node = machine.node
        if node is not None and node.cluster.view is not None:
            for node_id in sorted(node.peers.up.keys() & node.cluster.view.dead):
                text = f"{machine.name} is connected to {node_id.hex()}, which has departed"
                found.append(Violation("membership changes come to an end", b"", text))
    return found


def in_doubt(cluster: Cluster) -> list[str]:
    """The homes that do not count for strict reads, since they may have lost something."""
    return [
        machine.name
        for partition, homes in enumerate(cluster.homes_of_partitions())
        for machine in homes
        if machine.engine.is_suspect(partition)
    ]


def diverged_trees(cluster: Cluster) -> list[Violation]:
    """The Merkle roots of each partition agree among its homes."""
    found = []
    for partition, homes in enumerate(cluster.homes_of_partitions()):
        roots = {one.name: one.engine.forest.root(partition) for one in homes}
        if len(set(roots.values())) > 1:
            found.append(Violation("convergence", b"", f"the trees of partition {partition} differ: {roots}"))
    return found


def ownership(cluster: Cluster, replicas: int, given_up: Collection[str] = ()) -> list[Violation]:
    """Every partition has its N homes, which are members, and nobody else holds anything of it."""
    machines = list(cluster.machines.values())
    view = newest_view(machines)
    departed = {one.name for one in machines if view is not None and one.node_id in view.departed}
    roster = newest_roster(machines)
    members = {one.name: roster[one.node_id] for one in members_of(machines) if one.node_id in roster}
    homes = names_of_homes(cluster)
    found = checkers.wrong_homes(homes, members, departed, replicas) + checkers.strays(homes, holding(cluster, given_up))
    return found + checkers.placed(homes, members, replicas)
