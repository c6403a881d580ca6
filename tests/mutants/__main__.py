"""`make mutants`: every planted bug, one after the other, in a copy of the tree; somebody must notice each of them, and nobody must
notice anything without one.

    python -m tests.mutants [--only NAME ...] [--seeds 1000] [--jobs 2]

A mutant of the data planes is looked for by the simulator's core tier, seed after seed up to the first that breaks a promise. One that
it does not see, and every other, is looked for by the tier of whole nodes likewise, or by the tests that its patch names.
The control is the tree as it is: as many seeds of each tier as any mutant needed, and all tests that were named. Rows go to
build/mutants.json. The exit code is 0 only when every mutant was caught and the control was quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dynamo_fast.testing.sim import CORE, NODES
from tests.mutants.patches import ROOT, DoesNotApply, Mutant, everyone

OUTPUT = ROOT / "build" / "mutants.json"
SCRATCH = ROOT / "build" / "mutants"
ORIGINAL = SCRATCH / "original"
COPIED = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "_ext", "bench", "docs", "dynamo_fast", "tests", "build/cython")
BUILT = ("dynamo_fast/**/*.so", "build/lib.*/**/*.so", "build/cython/**/*.c")  # what a build writes, and may take for up to date later (!)
COMPILED = (".pyx", ".pxd", ".c", ".h")
BUILD_S, TESTS_S, SEED_S = 900.0, 900.0, 3.0  # how long each may take, the last one for every seed


@dataclass(frozen=True)
class Finding:
    """What became of one tree. `tier`: of the simulator that looked at it last, empty for tests; `by`: the checker or test that noticed,
    empty when nobody did; `trouble`: why nothing can be said."""

    tier: str = ""
    by: str = ""
    text: str = ""
    seed: int | None = None
    run: int = 0
    trouble: str = ""
    seconds: float = 0.0


def copy_tree() -> None:
    """The tree as it is now, with what was built: later changes to it are of no concern to a run under way."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    for source in [ROOT / name for name in COPIED] + list(ROOT.glob("build/lib.*")):
        to = ORIGINAL / source.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(source, to)


class Tree:
    """A copy of the source tree, built, for one mutant at a time; what its build changes is put back from the original."""

    def __init__(self, number: int) -> None:
        self.path = SCRATCH / f"tree{number}"
        shutil.copytree(ORIGINAL, self.path)

    def plant(self, mutant: Mutant) -> str:
        """Breaks the tree; what went wrong with that, or nothing."""
        for name, text in mutant.broken(self.path).items():
            (self.path / name).write_text(text)
        return self.build() if any(name.endswith(COMPILED) for name in mutant.files) else ""

    def build(self) -> str:
        done = self.python("setup.py", "-q", "build_ext", "--inplace", within_s=BUILD_S)
        return "" if done.returncode == 0 else f"does not build: {last_line(done.stderr)}"

    def restore(self, mutant: Mutant) -> None:
        made = [path.relative_to(self.path) for pattern in BUILT for path in self.path.glob(pattern)]
        for name in [*map(Path, mutant.files), *made]:
            original, copy = ORIGINAL / name, self.path / name
            if original.stat().st_mtime_ns != copy.stat().st_mtime_ns:
                shutil.copy2(original, copy)

    def python(self, *words: str, within_s: float) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = ["nice", sys.executable, *words]
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=within_s, check=False)

    def simulate(self, tier: str, seeds: int) -> Finding:
        done = self.python("-m", "tests.mutants.hunt", "--tier", tier, "--seeds", str(seeds), within_s=120 + SEED_S * seeds)
        if done.returncode < 0:
            return Finding(tier=tier, by="the process dies", text=f"signal {-done.returncode}: {last_line(done.stderr)}", run=1)
        if done.returncode:
            return Finding(trouble=f"the hunt ended with {last_line(done.stderr)}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert told["package"] == str(self.path), "a hunt looks at the tree it runs in"
        return Finding(tier=tier, by=told["promise"], text=told["text"], seed=told["seed"], run=told["run"])

    def test(self, tests: Sequence[str]) -> Finding:
        done = self.python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, within_s=TESTS_S)
        if done.returncode < 0:
            return Finding(by="the process dies", text=f"signal {-done.returncode}")
        if done.returncode > 1:
            return Finding(trouble=f"pytest ended with {last_line(done.stdout)}")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)(.*)$", done.stdout, re.MULTILINE)
        return Finding(by=failed[1].rpartition("/")[2], text=failed[2]) if failed else Finding(text=last_line(done.stdout))


def last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said")


def look_for(mutant: Mutant, tree: Tree, seeds: int) -> Finding:
    """Plants one bug, looks whether anybody notices, and takes it out again."""
    began_s = time.monotonic()
    try:
        trouble = tree.plant(mutant)
        found = Finding(trouble=trouble) if trouble else seek(mutant, tree, seeds)
    except DoesNotApply as error:
        found = Finding(trouble=str(error))
    except subprocess.TimeoutExpired as error:
        found = Finding(by="nothing hangs", text=f"no end within {error.timeout:g} s")
    finally:
        tree.restore(mutant)
    return replace(found, seconds=time.monotonic() - began_s)


def seek(mutant: Mutant, tree: Tree, seeds: int) -> Finding:
    """Whoever is cheaper looks first."""
    if mutant.in_data_planes:
        found = tree.simulate(CORE, seeds)
        if found.by or found.trouble:
            return found
    return tree.test(mutant.tests) if mutant.tests else tree.simulate(NODES, seeds)


def control(trees: Sequence[Tree], mutants: Sequence[Mutant], findings: Sequence[Finding]) -> list[tuple[str, Finding]]:
    """The tree as it is, looked at by everybody who caught a mutant, as long as they took."""
    asked = []
    for tier in (CORE, NODES):
        seeds = max((one.run for one in findings if one.tier == tier), default=0)
        if seeds:
            asked.append((f"no mutant, {seeds} seeds of the tier {tier}", trees[0].simulate(tier, seeds)))
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    if tests:
        asked.append((f"no mutant, {len(tests)} test files", trees[-1].test(tests)))
    return asked


def row(mutant: Mutant, found: Finding, seeds: int) -> dict[str, object]:
    """The mutant's row in build/mutants.json; its figure is the seeds that it took, or the tests that failed at once."""
    figures = {"figure": int(bool(found.by)), "unit": "failed tests", "target": 1} if not found.tier else {
        "figure": found.run, "unit": "seeds until caught", "target": seeds}  # fmt: skip
    told = {"tier": found.tier, "promise": mutant.promise, "caught_by": found.by, "text": found.text, "first_seed": found.seed,
            "trouble": found.trouble}  # fmt: skip
    return {"name": mutant.name, **figures, "ok": bool(found.by) and not found.trouble, **told}


def show(mutants: Sequence[Mutant], findings: Sequence[Finding], quiet: Sequence[tuple[str, Finding]]) -> None:
    table = Table("mutant", "promise", "seen by", "caught by", "first seed", "seeds run", "s")
    for mutant, found in zip(mutants, findings, strict=True):
        by = found.trouble or found.by or "NOBODY"
        seed = "" if found.seed is None else str(found.seed)
        whom = f"tier {found.tier}" if found.tier else "tests"
        table.add_row(mutant.name, str(mutant.promise), whom, by, seed, str(found.run or ""), f"{found.seconds:.0f}")
    for name, found in quiet:
        table.add_row(name, "", "", found.trouble or (f"DISTURBED: {found.by} {found.text}" if found.by else "quiet, as it must be"))
    Console(width=160).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant and no others; may be repeated")
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="of a tier, for each at most (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="trees at a time (default %(default)s)")
    parser.add_argument("--simulator", action="store_true", help="ask the simulator's nodes, whatever tests a patch names")
    given = parser.parse_args()
    mutants = [one for one in everyone() if not given.only or one.name in given.only]
    if given.simulator:
        mutants = [replace(one, tests=()) for one in mutants]
    unknown = set(given.only) - {one.name for one in mutants}
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    copy_tree()
    trees = [Tree(number) for number in range(min(given.jobs, len(mutants)))]
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def work(mutant: Mutant) -> Finding:
        tree = free.get()
        try:
            return look_for(mutant, tree, given.seeds)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        under_way = {pool.submit(work, mutant): mutant for mutant in mutants}
        for done in as_completed(under_way):
            found = done.result()
            where = "" if found.seed is None else f" (tier {found.tier}, seed {found.seed})"
            print(f"{under_way[done].name}: {found.trouble or found.by or 'caught by NOBODY'}{where} {found.text[:140]}", flush=True)
    findings = [done.result() for done in under_way]
    quiet = control(trees, mutants, findings)
    show(mutants, findings, quiet)
    rows = [row(mutant, found, given.seeds) for mutant, found in zip(mutants, findings, strict=True)]
    rows += [{"name": name, "figure": int(bool(found.by)), "unit": "violations", "target": 0, "ok": not (found.by or found.trouble),
              "text": found.text, "trouble": found.trouble} for name, found in quiet]  # fmt: skip
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n")
    missed = [str(one["name"]) for one in rows if not one["ok"]]
    print(f"{OUTPUT.relative_to(ROOT)}: {len(rows) - len(missed)} of {len(rows)} as they must be", *missed, sep="\nnot: ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
