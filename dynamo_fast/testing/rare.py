"""Rare branches taken on purpose: what a node may do, and hardly ever does by itself, at sites with names in its own code.

    if self._env.rarely("gossip: news wait for the round"):

Every branch is correct behaviour, of a kind that happens when a disk is slow, a message long or a task late. A seed turns some of the sites
on, so that one rare thing happens often in one run, and every one of them in some run.
"""

from __future__ import annotations

import random

ON = 0.3  # of the sites, in one run
TAKEN = 0.15  # of the times that a site is passed which is on


class Rare:
    """The sites of one run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chance = random.Random(f"{seed} rare")
        self._on: dict[str, bool] = {}
        self.counts: dict[str, int] = {}  # by site, how often its branch was taken

    def strike(self, site: str) -> bool:
        """Whether the branch is taken this time."""
        if site not in self._on:
            self._on[site] = random.Random(f"{self._seed} {site}").random() < ON
        if not self._on[site] or self._chance.random() >= TAKEN:
            return False
        self.counts[site] = self.counts.get(site, 0) + 1
        return True
