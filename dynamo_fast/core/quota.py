"""How many partitions each node is to hold: replicas shared out by weight (paper, sections 4.2 and 6.2).

Nodes stand on hosts, hosts in zones. No partition may have two replicas on one host while there are hosts enough, nor two
in one zone while there are zones enough, so a heavy node cannot always have its share: a host of a cluster with three
homes per partition holds each partition at most once, whatever its weight. Within those bounds water is poured into all
nodes at once, as wide as their weights, until a node, host or zone is full; what it cannot take goes to the others.

A node holds as many whole partitions as the water covers (the method of D'Hondt): no way to share out whole partitions
leaves the fullest node, by weight, with less, and whoever joins or grows only takes from others and never makes two of
those others exchange anything. Where several nodes are equally next, those that hold the partition already keep it.
Integers only, so that every machine finds the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

# Water levels are counted in 2^-40 of a partition for a weight of 1: finer than the difference of any two k / weight.
LEVEL_BITS = 40


@dataclass(slots=True)
class Basin:
    """A node, a host, a zone or the cluster. Bounds are in partitions."""

    least: int
    most: int
    weight: int = 0  # a node's; 0 for what has parts
    held: int = 0  # a node's: partitions it holds already
    parts: list["Basin"] = field(default_factory=list)
    quota: int = 0

    def holds(self, level: int) -> int:
        """The whole partitions in it when the water stands at `level`, in 2^-LEVEL_BITS partitions."""
        water = sum([part.holds(level) for part in self.parts]) if self.parts else level * self.weight >> LEVEL_BITS
        return min(max(water, self.least), self.most)

    def keeps(self, level: int) -> int:
        """What it would hold with the water about to reach `level`, if nodes took the last partition only where they have it."""
        kept = sum([part.keeps(level) for part in self.parts]) if self.parts else self.held
        return min(max(kept, self.holds(level - 1)), self.holds(level))

    def pour(self, quota: int) -> None:
        """Sets the quota, a number between the bounds, and shares it out among the parts, all the way down."""
        assert self.least <= quota <= self.most
        self.quota = quota
        if not self.parts:
            return
        if len(self.parts) == 1:
            return self.parts[0].pour(quota)
        low, high = 0, self.most << LEVEL_BITS
        while low < high:
            middle = (low + high) // 2
            if sum([part.holds(middle) for part in self.parts]) >= quota:
                high = middle
            else:
                low = middle + 1
        # At `low` the water covers the quota, just before it did not: some parts are equally next, and not all of them get one more.
        quotas = [part.holds(low - 1) for part in self.parts]
        left = quota - sum(quotas)
        for wanted in ([part.keeps(low) for part in self.parts], [part.holds(low) for part in self.parts]):
            room = [part_wants - held for part_wants, held in zip(wanted, quotas, strict=True)]
            given = min(left, sum(room))
            left -= given
            # Evenly along the line: all of them in the first zone would find no partitions that lack that zone.
            passed = 0
            for i, part_room in enumerate(room):
                quotas[i] += given * (passed + part_room) // sum(room) - given * passed // sum(room) if part_room else 0
                passed += part_room
        for part, part_quota in zip(self.parts, quotas, strict=True):
            part.pour(part_quota)


def joined(parts: list[Basin], least: int, most: int) -> Basin:
    return Basin(max(least, sum(part.least for part in parts)), min(most, sum(part.most for part in parts)), parts=parts)


def quotas(cluster: Sequence[Sequence[Sequence[tuple[int, int]]]], partitions: int, replicas: int) -> list[int]:
    """Partitions per node, from (weight, partitions held already) of the nodes on each host of each zone, in that order, as one flat list.

    `replicas` is at most the number of nodes. The quotas add up to partitions * replicas, and partitions can be dealt out
    so that each has as many distinct hosts, and zones, as there are, up to `replicas`.
    """
    enough_hosts = sum(len(zone) for zone in cluster) >= replicas
    enough_zones = len(cluster) >= replicas
    everything = partitions * replicas

    def bounds(enough: bool) -> tuple[int, int]:
        # With enough of them none holds a partition twice; with too few each holds every partition at least once.
        return (0, partitions) if enough else (partitions, everything)

    nodes: list[Basin] = []
    zones = []
    for zone in cluster:
        hosts = []
        for host in zone:
            workers = [Basin(0, partitions, weight, held) for weight, held in host]
            nodes += workers
            hosts.append(joined(workers, *bounds(enough_hosts)))
        zones.append(joined(hosts, *bounds(enough_zones)))
    joined(zones, 0, everything).pour(everything)
    return [node.quota for node in nodes]
