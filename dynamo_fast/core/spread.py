"""Deals the replicas of partitions out to nodes, and orders who stands in for whom (paper, sections 4.3, 4.6 and 6.2).

How many partitions a node holds is decided elsewhere (core/quota.py). Here it is decided which: so that hosts and zones
differ within each partition, and so that the partitions of one node have their other homes and their fallbacks all over
the cluster. A node that dies then leaves a little work to everyone instead of all of it to a neighbour.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from dynamo_fast.core.dice import Dice
from dynamo_fast.core.quota import quotas

# Fallbacks whose load is evened out one by one; those further down are needed only when so many nodes are dead at once.
FALLBACKS_EVENED = 3
# How many of the possible nodes are looked at for each of those: enough to be even, few enough for 200 nodes.
CANDIDATES = 16
# Orders of all nodes from which fallbacks are taken, each from many starting points.
SHUFFLES = 64
# Attempted exchanges of two replicas between partitions, for each replica there is.
EXCHANGES_PER_REPLICA = 6
COST_BITS = 20


class Spread:
    """Nodes 0, 1, 2 ... with the host, zone and weight of each, and how many of them are homes of a partition.

    A host is in one zone; weights are at least 1; replicas is at most the number of nodes.
    """

    def __init__(self, hosts: Sequence[str], zones: Sequence[str], weights: Sequence[int], replicas: int, seed: int) -> None:
        self.hosts = hosts
        self.zones = zones
        self.weights = weights
        self.replicas = replicas
        self.dice = Dice(seed)
        self.nodes = range(len(hosts))
        self.host_count = len(set(hosts))
        self.zone_count = len(set(zones))
        # The most that the homes of a partition can have; all of them do.
        self.distinct_hosts = min(replicas, self.host_count)
        self.distinct_zones = min(replicas, self.zone_count)

    def table(self, partitions: int) -> tuple[tuple[int, ...], ...]:
        """One row per partition, all nodes in preference order: the homes, then the fallbacks."""
        rows = self.deal(partitions)
        self.exchange(rows)
        self.order_homes(rows)
        return self.add_fallbacks(rows)

    def deal(self, partitions: int) -> list[list[int]]:
        """Homes for every partition, each node in as many as its quota says.

        All replicas stand in one line: node by node, host by host, zone by zone; partition p takes every partitions-th of
        them, beginning with the p-th. Whatever stands together in the line, and is at most `partitions` long, is hit once
        at most, whatever is longer once at least: that is all that distinct hosts and zones ask for.
        """
        shares = self.quotas(partitions, [0] * len(self.nodes))
        line = [node for zone in self.cluster() for host in zone for node in host for _ in range(shares[node])]
        return [line[partition::partitions] for partition in range(partitions)]

    def cluster(self) -> list[list[list[int]]]:
        """The nodes of each host of each zone, all three in order."""
        tree: dict[str, dict[str, list[int]]] = {}
        for node in self.nodes:
            tree.setdefault(self.zones[node], {}).setdefault(self.hosts[node], []).append(node)
        return [[hosts[host] for host in sorted(hosts)] for _, hosts in sorted(tree.items())]

    def quotas(self, partitions: int, held: Sequence[int]) -> list[int]:
        """How many partitions each node is to hold, near to what it holds now where there is a choice."""
        cluster = self.cluster()
        nodes = [[[(self.weights[node], held[node]) for node in host] for host in zone] for zone in cluster]
        poured = quotas(nodes, partitions, self.replicas)
        shares = [0] * len(self.nodes)
        for node, share in zip([node for zone in cluster for host in zone for node in host], poured, strict=True):
            shares[node] = share
        return shares

    def held(self, rows: Iterable[Iterable[int]]) -> list[int]:
        """In how many of these rows each node is."""
        held = [0] * len(self.nodes)
        for row in rows:
            for node in row:
                held[node] += 1
        return held

    def exchange(self, rows: list[list[int]]) -> None:
        """Lets pairs of partitions exchange a home, at random, where both stay as spread as they were.

        Dealing gave neighbours in the line the same partners over and over. Quotas stay what they are.
        """
        below = self.dice.below
        for _ in range(EXCHANGES_PER_REPLICA * self.replicas * len(rows)):
            left, right = rows[below(len(rows))], rows[below(len(rows))]
            i, j = below(self.replicas), below(self.replicas)
            mine, other = left[i], right[j]
            if mine in right or other in left:
                continue
            left[i], right[j] = other, mine
            if self.hosts[mine] != self.hosts[other] and not (self.is_spread(left) and self.is_spread(right)):
                left[i], right[j] = mine, other

    def is_spread(self, row: list[int]) -> bool:
        hosts, zones = self.hosts, self.zones
        return (
            len({hosts[node] for node in row}) == self.distinct_hosts and len({zones[node] for node in row}) == self.distinct_zones
        )

    def order_homes(self, rows: list[list[int]]) -> None:
        """Puts the homes of each partition in an order in which every node comes first as often as its quota asks."""
        held = self.held(rows)
        for place in range(self.replicas - 1):
            taken = [0] * len(self.nodes)
            for row in rows:
                best = min(range(place, self.replicas), key=lambda i: (taken[row[i]] << COST_BITS) // held[row[i]])
                row[place], row[best] = row[best], row[place]
                taken[row[place]] += 1

    def add_fallbacks(self, rows: list[list[int]]) -> tuple[tuple[int, ...], ...]:
        """Appends the other nodes to every row, so that what a dead node held falls on all others by weight.

        extra[place][dead][node] counts the partitions of `dead` in which `node` is the fallback number `place`.
        """
        extra = [[[0] * len(self.nodes) for _ in self.nodes] for _ in range(FALLBACKS_EVENED)]
        held = self.held(rows)
        shuffles = [self.dice.shuffled(self.nodes) for _ in range(SHUFFLES)]
        finished = []
        for homes in rows:
            shuffle = shuffles[self.dice.below(SHUFFLES)]
            start = self.dice.below(len(shuffle))
            rest = [node for node in shuffle[start:] + shuffle[:start] if node not in homes]
            row = list(homes)
            for place in range(min(FALLBACKS_EVENED, len(rest))):
                node = self.fallback(row, rest, [(extra[place][home], held[home]) for home in homes])
                for home in homes:
                    extra[place][home][node] += 1
                row.append(node)
                rest.remove(node)
            finished.append((*row, *rest))
        return tuple(finished)

    def fallback(self, row: list[int], rest: list[int], counts: list[tuple[list[int], int]]) -> int:
        """The node to stand in next: in a new zone if there is one (and so on a new host), else on a new host, else any; of
        the first few such, the one that would stand in least for that of these homes for which it does so most, measured by
        its weight. `counts` has for each home in how many partitions each node stands in for it, and how many the home holds."""
        hosts, zones = self.hosts, self.zones
        used_hosts = {hosts[node] for node in row}
        used_zones = {zones[node] for node in row}
        if len(used_zones) < self.zone_count:
            candidates = list(islice((node for node in rest if zones[node] not in used_zones), CANDIDATES))
        elif len(used_hosts) < self.host_count:
            candidates = list(islice((node for node in rest if hosts[node] not in used_hosts), CANDIDATES))
        else:
            candidates = rest[:CANDIDATES]
        weights = self.weights

        def share(node: int) -> tuple[int, int]:
            most = max([(count[node] + 1 << COST_BITS) // (held * weights[node]) for count, held in counts])
            return most, sum([count[node] for count, _ in counts])

        return min(candidates, key=share)
