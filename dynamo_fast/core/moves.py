"""Turns the homes of one placement into those of the next by moving as few replicas as can be (paper, sections 4.9 and 6.2).

Given are the homes that survive a change, with gaps where a node has left, and how many partitions each node is to hold
(core/quota.py). What must move is what stands on nodes that are gone or hold too much, and what shares a host or a zone
that it need not share any more. Each such replica goes straight to a node that is to hold more wherever hosts and zones
let it; where they do not, it pushes another one on, along the shortest chain there is. In integers and from lists only,
so that every machine makes the same moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from dynamo_fast.core.dice import Dice

# Deficits are compared in 2^-20 of what a node is to hold.
SHARE_BITS = 20


class Moves:
    """The homes of every partition on their way: `rows`, which `run` completes.

    `rows[p]` lists the homes that partition p keeps, at most `replicas`; `quotas` add up to replicas * partitions, and a
    table that meets them exists. `hosts` and `zones` are by node. A row may repeat a host or a zone at most as often as
    `replicas` exceeds their number.
    """

    def __init__(
        self, rows: list[list[int]], quotas: Sequence[int], hosts: Sequence[str], zones: Sequence[str], replicas: int, dice: Dice
    ) -> None:
        self.rows = rows
        self.quotas = quotas
        self.hosts = hosts
        self.zones = zones
        self.replicas = replicas
        self.dice = dice
        self.hosts_repeated = replicas - min(replicas, len(set(hosts)))
        self.zones_repeated = replicas - min(replicas, len(set(zones)))
        self.before = [tuple(row) for row in rows]
        self.held: list[list[int]] = [[] for _ in quotas]  # by node, the partitions it is a home of
        for partition, row in enumerate(rows):
            for node in row:
                self.held[node].append(partition)

    def run(self) -> None:
        """Fills and evens out the rows: afterwards each has `replicas` homes and every node holds its quota."""
        self.part_the_crowded()
        gaps = [partition for partition, row in enumerate(self.rows) for _ in range(self.replicas - len(row))]
        receivers = Receivers(self)
        stuck = [gap for gap in self.dice.shuffled(gaps) if not receivers.take(gap, None)]
        for giver in self.dice.shuffled(range(len(self.quotas))):
            excess = len(self.held[giver]) - self.quotas[giver]
            if excess > 0:
                for partition in self.dice.shuffled(self.held[giver]):
                    if receivers.take(partition, giver):
                        excess -= 1
                        if not excess:
                            break
                stuck += [-1 - giver] * excess
        for one in stuck:
            self.push(one)

    def is_spread(self, row: Sequence[int]) -> bool:
        return self.crowding(row) == 0

    def fits(self, partition: int, taker: int, giver: int | None) -> bool:
        """Whether the taker may be a home of the partition, in place of the giver if there is one."""
        row = self.rows[partition]
        if taker in row:
            return False
        hosts, zones = self.hosts, self.zones
        shares_host = shares_zone = False
        for node in row:
            if node != giver:
                shares_host = shares_host or hosts[node] == hosts[taker]
                shares_zone = shares_zone or zones[node] == zones[taker]
        # Whoever shares nothing fits; whoever does fits where that may be, and the others leave room for it.
        if (shares_host and not self.hosts_repeated) or (shares_zone and not self.zones_repeated):
            return False
        return not shares_zone or self.is_spread([taker, *[node for node in row if node != giver]])

    def move(self, partition: int, taker: int, giver: int | None) -> None:
        """The taker has the giver's place in the row, or the gap."""
        row = self.rows[partition]
        if giver is None:
            row.append(taker)
        else:
            row[row.index(giver)] = taker
            self.held[giver].remove(partition)
        self.held[taker].append(partition)

    def part_the_crowded(self) -> None:
        """Takes homes out of rows that share more hosts or zones than they must; of those that would do, the one that holds
        most beyond its quota."""
        for partition, row in enumerate(self.rows):
            while not self.is_spread(row):
                helpful = [node for node in row if self.crowding([other for other in row if other != node]) < self.crowding(row)]
                gone = max(helpful, key=lambda node: len(self.held[node]) - self.quotas[node])
                row.remove(gone)
                self.held[gone].remove(partition)

    def crowding(self, row: Sequence[int]) -> int:
        """By how much the row repeats hosts and zones beyond what it must."""
        hosts = len(row) - len({self.hosts[node] for node in row}) - self.hosts_repeated
        zones = len(row) - len({self.zones[node] for node in row}) - self.zones_repeated
        return max(hosts, 0) + max(zones, 0)

    def push(self, start: int) -> None:
        """Places a replica that no node with room can take: the gap of partition `start`, or one too many of node -1 - start.

        A node takes it and gives another replica on, which one with room takes, or one that gives on again. Wanted is a chain
        that moves few replicas (giving on what was taken just now moves nothing more) and changes no partition twice. Where
        there is none, the shortest chain does: what may stand together is a matroid, and the shortest way from one of its
        bases to another keeps to them.
        """
        if not self.chain(start, sparing=True) and not self.chain(start, sparing=False):
            raise AssertionError("hosts and zones leave no way to these quotas")

    def chain(self, start: int, sparing: bool) -> bool:
        """Looks for a chain breadth first and makes its moves; False when there is none."""
        came: dict[int, tuple[int | None, int]] = {}  # by node: who gave it which partition
        unseen = dict.fromkeys(range(len(self.quotas)))
        if start >= 0:
            now: list[tuple[int | None, int, int]] = [(None, start, node) for node in unseen if self.fits(start, node, None)]
        else:
            unseen.pop(-1 - start)
            now = [(-1 - start, partition, node) for partition, node in self.gifts(-1 - start, unseen, fresh=False)]
        while now:
            reached: list[int] = []
            for giver, partition, node in now:  # grows as it goes, by what moves nothing more
                if node not in unseen:
                    continue
                del unseen[node]
                came[node] = (giver, partition)
                if len(self.held[node]) < self.quotas[node]:
                    self.follow(came, node)
                    return True
                reached.append(node)
                if sparing:
                    now += [
                        (node, given, taker)
                        for given, taker in self.gifts(node, unseen, fresh=True)
                        if not self.on_the_way(came, node, given)
                    ]
            now = [
                (node, given, taker)
                for node in reached
                for fresh in ((False,) if sparing else (True, False))
                for given, taker in self.gifts(node, unseen, fresh)
                if not (sparing and self.on_the_way(came, node, given))
            ]
        return False

    def gifts(self, giver: int, takers: Iterable[int], fresh: bool) -> Iterator[tuple[int, int]]:
        """What the giver could hand to whom, of what it has taken just now or of what it had before: (partition, taker), each taker
        once at most."""
        left = list(takers)
        for partition in self.held[giver]:
            if (giver in self.before[partition]) != fresh:
                for taker in [taker for taker in left if self.fits(partition, taker, giver)]:
                    yield partition, taker
                    left.remove(taker)
                if not left:
                    break

    @staticmethod
    def on_the_way(came: dict[int, tuple[int | None, int]], node: int | None, partition: int) -> bool:
        """Whether the chain that ends at the node changes the partition already: twice could undo what made it fit."""
        while node is not None:
            node, given = came.get(node, (None, -1))
            if given == partition:
                return True
        return False

    def follow(self, came: dict[int, tuple[int | None, int]], end: int) -> None:
        node: int | None = end
        while node is not None and node in came:
            giver, partition = came[node]
            self.move(partition, node, giver)
            node = giver


class Receivers:
    """Nodes that are to hold more than they do, the emptiest by its quota first."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves
        self.heap: list[tuple[int, int, int]] = []
        for node, quota in enumerate(moves.quotas):
            if len(moves.held[node]) < quota:
                self.heap.append(self.entry(node))
        heapify(self.heap)

    def entry(self, node: int) -> tuple[int, int, int]:
        """Fullness first; chance between equals, lest the order of node ids decide who shares partitions with whom."""
        return (len(self.moves.held[node]) << SHARE_BITS) // self.moves.quotas[node], self.moves.dice.below(1 << SHARE_BITS), node

    def take(self, partition: int, giver: int | None) -> bool:
        """Moves the giver's replica of the partition, or fills its gap; False when none of these nodes may have it."""
        passed: list[tuple[int, int, int]] = []
        taker = -1
        while self.heap:
            entry = heappop(self.heap)
            if self.moves.fits(partition, entry[2], giver):
                taker = entry[2]
                self.moves.move(partition, taker, giver)
                break
            passed.append(entry)
        for entry in passed:
            heappush(self.heap, entry)
        if taker < 0:
            return False
        if len(self.moves.held[taker]) < self.moves.quotas[taker]:
            heappush(self.heap, self.entry(taker))
        return True
