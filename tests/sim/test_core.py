"""Seeds of the core tier: every promise kept, the same run every time, and planted bugs that it finds."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from dynamo_fast.core.change import Step, step_to_do
from dynamo_fast.testing import sim
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.core import clients
from dynamo_fast.testing.core.change import Succession
from dynamo_fast.testing.core.clients import Client
from dynamo_fast.testing.core.repair import Repair
from dynamo_fast.testing.core.simulation import simulate
from dynamo_fast.testing.core.swarm import CoreMix, draw
from dynamo_fast.testing.core.world import World
from dynamo_fast.testing.faults import CLOCK, DISK, NETWORK, PROCESS
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.planes import PlaneNode
from dynamo_fast.testing.user import User
from dynamo_fast.testing.verdict import Verdict
from dynamo_fast.wire.data_messages import encode_get
from dynamo_fast.wire.status import Outcome

SEEDS = int(os.environ.get("DYNAMO_FAST_SIM_SEEDS", "40"))
CHUNK = 20

reached: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + CHUNK):
        verdict = simulate(draw(seed))
        assert verdict.violations == [], "\n".join(sim.told(verdict, sim.CORE))
        reached.update(verdict.probes)
        reached.update(verdict.faults)
        reached["stale reads"] += verdict.stale_reads


def test_the_seeds_reach_what_is_rare() -> None:
    """After the seeds above. Sloppy reads must be stale sometimes: that is the control that the rig can see staleness at all."""
    if SEEDS < 40:
        pytest.skip("too few seeds for the rare")
    wanted = {kind.__name__.replace("_", " ") for kind in (*NETWORK, *PROCESS, *DISK, *CLOCK)}
    wanted |= {"stale reads", "siblings shown", "siblings resolved", "writes applied by two coordinators", "read_repairs", "hints_taken",
               "hints removed", "entries merged", "merges refused by a disk", "partitions trusted again", "acknowledged puts counted",
               "damaged_records", "retries", "forwards", "suspicions", "peers_given_up", "gets_hedged", "partitions brought",
               "acknowledged puts counted between placements", "many in one step",
               "seeds in which all is answered", "gets of nothing at all", "put answered BAD_CONTEXT",
               "copies parted with", "put answered QUORUM_FAILED", "put answered DEADLINE", "put answered NOT_ENOUGH_REPLICAS",
               "put answered READ_ONLY"}  # fmt: skip
    assert {name for name in wanted if not reached[name]} == set()


def promises_broken(seeds: int, change: Callable[[CoreMix], CoreMix]) -> set[str]:
    return {one.promise for seed in range(seeds) for one in simulate(change(draw(seed))).violations}


def calm(mix: CoreMix, **habits: object) -> CoreMix:
    """Nothing but wrong clocks, which must not matter, so that what is found is what was planted."""
    changed = dataclasses.replace(mix.habits, last_write_wins=0, stray_context=0.0, **habits)  # type: ignore[arg-type]
    return dataclasses.replace(mix, kinds=("clock_jump",), rounds=1, round_s=0.3, habits=changed, members=0)


def test_nothing_is_found_where_all_is_calm() -> None:
    assert promises_broken(5, calm) == set()


def test_what_a_slow_network_holds_back_has_arrived_before_anything_is_judged() -> None:
    """Puts that arrive long after their users gave them up, and after all has been healed."""

    def slow(world: World) -> None:
        for user, name in itertools.product(("client0", "client1"), world.names):
            world.network.link(user, name).delay_s = 10.0

    verdict = simulate(calm(draw(0), read=0.0), slow)
    assert verdict.violations == []
    assert verdict.acknowledged == 0
    assert verdict.probes["puts"] > 0


def test_without_its_guard_the_rig_finds_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes of one copy, and disks that nobody rations."""
    monkeypatch.setattr(Guard, "may_destroy", lambda guard, machine: True)

    def lossy(mix: CoreMix) -> CoreMix:
        mix = calm(mix, writes=((1, 1),), blind=0.2, keys=8)
        return dataclasses.replace(mix, kinds=("wiped_disk",), fault_every_s=0.02, repair_every_s=0.0)

    assert "no lost write" in promises_broken(5, lossy)


def test_a_put_that_asks_for_less_than_it_says_is_found_at_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_write = User.begin_write

    def modest(user: User, key: bytes, now_s: float, *, tombstone: bool = False):
        write, context, _ = begin_write(user, key, now_s, tombstone=tombstone)
        return write, context, 1

    monkeypatch.setattr(User, "begin_write", modest)
    assert promises_broken(3, lambda mix: calm(mix, writes=((3, 0),))) == {"acknowledged is W copies, DW on disk"}


def test_strict_reads_of_one_home_are_found_to_be_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "encode_get", lambda key, **options: encode_get(key, **(options | {"r": 1})))
    assert promises_broken(15, lambda mix: calm(mix, writes=((2, 0),), reads=(2,), strict=1.0, keys=1)) == {"strict reads are regular"}


def test_reads_that_forget_their_session_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "encode_get", lambda key, **options: encode_get(key, **(options | {"session_context": b""})))
    monkeypatch.setattr("dynamo_fast.client.context.Session.satisfied_by", lambda *_: True)
    assert promises_broken(5, lambda mix: calm(mix, writes=((1, 0),), reads=(1,), strict=0.0, sessions=1.0, keys=1)) == {"sessions"}


def test_a_refusal_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "outcome_of", lambda status: Outcome.NOT_APPLIED if status == 0 else Outcome.UNKNOWN)
    assert "honest answers" in promises_broken(2, calm)


def test_homes_that_never_compare_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repair, "everything", lambda repair: None)

    def forgetful(mix: CoreMix) -> CoreMix:
        return dataclasses.replace(calm(mix, writes=((1, 0),), strict=0.0), kinds=("isolated",), fault_every_s=0.02, repair_every_s=0.0)

    assert "recovery" in promises_broken(3, forgetful)


@pytest.mark.parametrize(("kinds", "members", "promise"), [
    (("kill",), 0, "hints reach their owners"), (("many_in_one_step",), 3, "membership changes lose nothing"),
])  # fmt: skip
def test_what_goes_before_others_have_it_is_found(monkeypatch: pytest.MonkeyPatch, kinds, members, promise: str) -> None:
    """The sender is told of everything at once, and what was sent is lost."""
    monkeypatch.setattr(Repair, "push", lambda repair, source, target, entries, told: told(entries, [0] * len(entries)))

    def hasty(mix: CoreMix) -> CoreMix:
        mix = dataclasses.replace(calm(mix, writes=((2, 0),), strict=0.0, keys=300), kinds=kinds, fault_every_s=0.05, repair_every_s=0.01)
        return dataclasses.replace(mix, members=members, nodes=6, shared_hosts=False)

    assert promise in promises_broken(2, hasty)


def moving(mix: CoreMix) -> CoreMix:
    """Members change, and nothing else happens."""
    mix = calm(mix, writes=((2, 0),), reads=(2,), strict=1.0, blind=0.0, read=0.6, keys=300)
    return dataclasses.replace(mix, kinds=("many_in_one_step",), fault_every_s=0.2, round_s=1.0, members=3, nodes=6, shared_hosts=False,
                               repair_every_s=0.0, look_s=0.01, way_s=0.01, least=3)  # fmt: skip


def test_members_that_bring_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict reads go to them as to any home, and miss what they never fetched."""
    monkeypatch.setattr(Succession, "_bring", lambda succession, machine, member: True)
    assert "strict reads are regular" in promises_broken(3, moving)


def test_members_that_say_that_they_have_brought_what_they_have_not_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo_fast.testing.core.change.gains", lambda old, new, node_id: {})
    found = [one for seed in range(2) for one in simulate(moving(draw(seed))).violations]
    assert any("has told that it holds what" in one.text for one in found)


def test_a_step_that_does_not_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(*given: object) -> Step:
        step = step_to_do(*given)  # type: ignore[arg-type]
        return Step.SYNCED if step == Step.DOUBLE else step

    monkeypatch.setattr("dynamo_fast.testing.core.member.step_to_do", hasty)
    found = [one for seed in range(2) for one in simulate(moving(draw(seed))).violations]
    assert any("has not told of the one before" in one.text for one in found)


def test_who_goes_on_suspecting_somebody_who_is_well_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlaneNode, "suspects", lambda node, other: True)
    assert promises_broken(1, lambda mix: calm(mix, writes=((2, 0),), keys=8)) == {"recovery"}


def test_a_bug_of_any_kind_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(client: Client, frame: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(Client, "heard", bug)
    (found,) = simulate(calm(draw(0))).violations
    assert (found.promise, found.text) == ("no bug", "ValueError: planted")


def test_the_same_seed_is_the_same_run() -> None:
    """In two processes with different hash seeds, and here."""
    command = [sys.executable, "-m", "dynamo_fast.testing.sim", "--tier", "core", "--first", "7", "--seeds", "3", "--verbose"]
    seen = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True, capture_output=True, text=True)
        seen.add(tuple(line for line in done.stdout.splitlines() if line.startswith("seed ")))
    assert len(seen) == 1
    assert [line.split("trace ")[1].split(",")[0] for line in seen.pop()] == [simulate(draw(seed)).digest for seed in (7, 8, 9)]


def test_a_broken_promise_is_told_with_a_ladder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(tier: str, seed: int, watch: Callable[[World], None] = lambda world: None) -> Verdict:
        return dataclasses.replace(simulate(calm(draw(seed)), watch), violations=[Violation("no lost write", b"key0", "planted")])

    monkeypatch.setattr(sim, "simulate", broken)
    assert sim.main(["--tier", "core", "--first", "7", "--seeds", "1", "--ladder", "5"]) == 1
    shown = capsys.readouterr().out
    assert "python -m dynamo_fast.testing.sim --tier core --first 7 --seeds 1" in shown
    assert "the last messages about b'key0'" in shown
    assert len([line for line in shown.splitlines() if " -> " in line]) == 5
    assert "violations             1 seeds: 7" in shown
