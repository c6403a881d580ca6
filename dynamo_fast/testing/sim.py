"""`python -m dynamo_fast.testing.sim`: many seeds, each a cluster under mischief, and every promise looked after; docs/testing.md.

Two tiers: whole nodes, or (`--tier core`) data planes alone, which is many times faster and sees what requests alone can break.

Exit code 0 only if every seed kept every promise. A seed that did not is told with the one command that repeats it; that command also shows
the ladder: every message about the key at fault, from the last ones backwards as many as asked for.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from typing import Any

from dynamo_fast.testing import simulation, swarm
from dynamo_fast.testing.core import simulation as core_simulation
from dynamo_fast.testing.core import swarm as core_swarm
from dynamo_fast.testing.ladder import Ladder
from dynamo_fast.testing.verdict import Verdict

VIOLATIONS_SHOWN = 5
YOUNG_OBJECTS = 20_000  # before they are looked through for garbage: a run makes many that live long, and few cycles
NODES, CORE = "nodes", "core"


def simulate(tier: str, seed: int, watch: Callable[[Any], None] = lambda cluster: None) -> Verdict:
    """One seed of a tier; `watch` is called with its cluster before anything happens."""
    if tier == CORE:
        return core_simulation.simulate(core_swarm.draw(seed), watch)
    return simulation.simulate(swarm.draw(seed), watch)


class Summary:
    """What all seeds so far came to."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self.seeds = self.events = self.chunks = self.acknowledged = self.stale_reads = 0
        self.simulated_s = self.cpu_s = 0.0
        self.faults: Counter[str] = Counter()
        self.probes: Counter[str] = Counter()
        self.rare: Counter[str] = Counter()
        self.failed: list[int] = []

    def add(self, verdict: Verdict) -> None:
        self.seeds += 1
        self.events += verdict.events
        self.chunks += verdict.chunks
        self.acknowledged += verdict.acknowledged
        self.stale_reads += verdict.stale_reads
        self.simulated_s += verdict.simulated_s
        self.cpu_s += verdict.cpu_s
        self.faults.update(verdict.faults)
        self.probes.update(verdict.probes)
        self.rare.update(verdict.rare)
        if verdict.violations:
            self.failed.append(verdict.mix.seed)

    def lines(self) -> Iterator[str]:
        yield f"seeds                  {self.seeds} of the tier {self.tier}"
        yield f"simulated hours        {self.simulated_s / 3600:.2f}"
        rate = self.events / max(self.cpu_s, 1e-9)
        yield f"protocol events        {self.events:,} ({rate:,.0f} per second of CPU), {self.chunks:,} of them deliveries"
        yield f"faults                 {sum(self.faults.values()):,}: {listed(self.faults)}"
        rate = self.acknowledged / max(self.cpu_s, 1e-9)
        yield f"acknowledged writes    {self.acknowledged:,} ({rate:,.0f} per second of CPU, of which {self.cpu_s:.1f})"
        yield f"stale sloppy reads     {self.stale_reads} (nobody promised otherwise)"
        yield f"reached                {listed(self.probes)}"
        if self.rare:
            yield f"rare branches          {listed(self.rare)}"
        yield f"violations             {len(self.failed)} seeds" + (f": {' '.join(map(str, self.failed))}" if self.failed else "")


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def told(verdict: Verdict, tier: str) -> Iterator[str]:
    """A seed that broke a promise, for people."""
    seed = verdict.mix.seed
    yield f"seed {seed} broke {len(verdict.violations)} promises; trace {verdict.digest} at {verdict.simulated_s:.3f} s"
    yield f"  repeat with: python -m dynamo_fast.testing.sim --tier {tier} --first {seed} --seeds 1 --ladder 60"
    yield f"  {verdict.mix}"
    yield from (f"  {one}" for one in verdict.violations[:VIOLATIONS_SHOWN])


def run_seed(tier: str, seed: int) -> Verdict:
    logging.disable(logging.CRITICAL)  # nodes in trouble have much to say
    gc.set_threshold(YOUNG_OBJECTS, 10, 3)
    began_s = time.process_time()
    verdict = simulate(tier, seed)
    verdict.cpu_s = time.process_time() - began_s
    return verdict


def verdicts(tier: str, seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
    """The verdicts in the order of the seeds, from this process or from several."""
    if jobs == 1:
        yield from map(partial(run_seed, tier), seeds)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(run_seed, tier), seeds, chunksize=4)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dynamo_fast.testing.sim", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tier", choices=[CORE, NODES], default=NODES, help="data planes alone, or whole nodes (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--ladder", type=int, default=0, metavar="LINES", help="show the last messages about the key at fault")
    parser.add_argument("--verbose", action="store_true", help="a line for every seed")
    given = parser.parse_args(arguments)
    summary = Summary(given.tier)
    for verdict in verdicts(given.tier, range(given.first, given.first + given.seeds), given.jobs):
        summary.add(verdict)
        if given.verbose:
            print(f"seed {verdict.mix.seed}: trace {verdict.digest}, {verdict.acknowledged} acknowledged writes, {verdict.events} events")
        if verdict.violations:
            print(*told(verdict, given.tier), sep="\n", flush=True)
            if given.ladder:
                print(*ladder_of(verdict, given.tier, given.ladder), sep="\n", flush=True)
    print(*summary.lines(), sep="\n")
    return 1 if summary.failed else 0


def ladder_of(verdict: Verdict, tier: str, lines: int) -> list[str]:
    """The last messages about the first key at fault, from the same run once more."""
    key = next((one.key for one in verdict.violations if one.key), b"")
    if not key:
        return ["  (no key is at fault, so there is no ladder)"]
    ladder = Ladder(key)
    again = simulate(tier, verdict.mix.seed, ladder.watch)
    assert again.digest == verdict.digest, "the same seed is the same run"
    return [f"  the last messages about {key!r}:", *(f"  {line}" for line in ladder.lines[-lines:])]


if __name__ == "__main__":
    sys.exit(main())
