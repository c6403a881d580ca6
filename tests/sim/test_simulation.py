"""Seeds through the whole of it: every promise kept, the same run every time, and a rig that would notice."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from dynamo_fast.testing import sim
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.faults import KINDS
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.machine import Machine
from dynamo_fast.testing.simulation import simulate
from dynamo_fast.testing.swarm import draw
from dynamo_fast.testing.verdict import Verdict

SEEDS = int(os.environ.get("DYNAMO_FAST_SIM_SEEDS", "80"))
CHUNK = 20


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


reached: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + CHUNK):
        verdict = simulate(draw(seed))
        assert verdict.violations == [], "\n".join(sim.told(verdict, sim.NODES))
        reached.update(verdict.probes)
        reached.update(verdict.faults)
        reached["stale reads"] += verdict.stale_reads


def test_the_seeds_reach_what_is_rare() -> None:
    """After the seeds above. Sloppy reads must be stale sometimes: that is the control that the rig can see staleness at all."""
    if SEEDS < 80:
        pytest.skip("too few seeds for the rare")
    wanted = {name.replace("_", " ") for name in KINDS}
    wanted |= {"stale reads", "siblings shown", "siblings resolved", "writes applied by two coordinators", "read_repairs", "hints_taken",
               "damaged_records", "retries", "write answered DeadlineExceeded", "write answered NotEnoughReplicas", "forwards"}  # fmt: skip
    assert {name for name in wanted if not reached[name]} == set()


def test_without_its_guard_the_rig_finds_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes of one copy, and disks that nobody rations: what is lost must be found, or nothing else that is found would mean much."""
    monkeypatch.setattr(Guard, "may_destroy", lambda guard, machine: True)
    found = []
    for seed in range(5):
        mix = dataclasses.replace(draw(seed), kinds=("wiped_disk",), fault_every_s=0.2, round_s=1.0)
        habits = dataclasses.replace(mix.habits, writes=((1, 1),), blind=0.2, keys=8, last_write_wins=0)
        found += simulate(dataclasses.replace(mix, habits=habits)).violations
    assert "no lost write" in {one.promise for one in found}


def test_acknowledging_before_the_disk_has_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose disk says "synced" and is not: cuts of power then take what was acknowledged with DW."""
    cut_power = Machine.cut_power

    def lying(machine: Machine, *, at_worst: bool = False) -> None:
        half = dict(sorted(machine.engine.surviving(machine.engine.durable).items())[::2])
        cut_power(machine, at_worst=at_worst)
        machine.engine.replace_disk(half)

    monkeypatch.setattr(Machine, "cut_power", lying)
    found = []
    for seed in range(5):
        mix = dataclasses.replace(draw(seed), kinds=("power_cut",), fault_every_s=0.1, fault_lasts_s=0.2, round_s=1.0)
        habits = dataclasses.replace(mix.habits, writes=((2, 2),), keys=8, last_write_wins=0)
        found += simulate(dataclasses.replace(mix, habits=habits)).violations
    assert "no lost write" in {one.promise for one in found}


def test_the_same_seed_is_the_same_run() -> None:
    """In two processes with different hash seeds, and here."""
    command = [sys.executable, "-m", "dynamo_fast.testing.sim", "--first", "3", "--seeds", "2", "--verbose"]
    seen = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True, capture_output=True, text=True)
        seen.add(tuple(line for line in done.stdout.splitlines() if line.startswith("seed ")))
    assert len(seen) == 1
    assert [line.split("trace ")[1].split(",")[0] for line in seen.pop()] == [simulate(draw(seed)).digest for seed in (3, 4)]


def test_a_broken_promise_is_told_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(tier, seed, watch=lambda cluster: None) -> Verdict:
        verdict = simulate(draw(seed), watch)
        return dataclasses.replace(verdict, violations=[Violation("no lost write", b"key0", "planted")])

    monkeypatch.setattr(sim, "simulate", broken)
    assert sim.main(["--first", "20", "--seeds", "1", "--ladder", "5"]) == 1
    shown = capsys.readouterr().out
    assert "python -m dynamo_fast.testing.sim --tier nodes --first 20 --seeds 1" in shown
    assert "no lost write: planted" in shown
    assert "the last messages about b'key0'" in shown
    assert "violations             1 seeds: 20" in shown


def test_the_summary_of_good_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim.main(["--first", "20", "--seeds", "1"]) == 0
    shown = capsys.readouterr().out
    lines = ["seeds                  1", "simulated hours", "protocol events", "faults", "acknowledged writes", "violations             0"]
    assert [line for line in lines if line not in shown] == []
