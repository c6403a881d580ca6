"""The epoch rule: whatever machines forget, no dot is issued twice and no write is covered by one that had not seen it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import VectorClock
from tests.models.epoch import (
    COMMANDS,
    NAIVE,
    Command,
    Rule,
    Situation,
    World,
    careful,
    clean_shutdown_marker,
    epoch_from_disk,
    epoch_per_process,
    no_epochs,
)

A, B = b"a" * 16, b"b" * 16


def store_rule(situation: Situation) -> int:
    """The rule that the store runs, held against the one in plain Python at every put."""
    nonce, epoch = situation.record.mark
    chosen, alarm = situation.record.object.epoch_choose(
        node=situation.node, mark_nonce=nonce, mark_epoch=epoch, process_nonce=situation.process_nonce,
        fresh_epoch=situation.fresh_epoch, context=situation.context,
    )
    assert chosen == careful(situation)
    assert not alarm  # nothing in this world knows a dot that its maker does not
    return chosen


commands = st.builds(Command, st.sampled_from(COMMANDS), st.integers(0, 3), st.integers(0, 40))


@settings(max_examples=400)
@given(st.lists(commands, max_size=40))
def test_no_dot_is_issued_twice_and_no_write_vanishes(script: list[Command]) -> None:
    assert World(store_rule).run(script) == []


def random_script(seed: int) -> list[Command]:
    draw = random.Random(seed)
    return [Command(draw.choice(COMMANDS), draw.randrange(4), draw.randrange(60)) for _ in range(60)]


def test_the_rule_holds_on_long_random_runs() -> None:
    for seed in range(1000):
        assert World(store_rule).run(random_script(seed)) == [], f"seed {seed}"


@pytest.mark.parametrize("rule", NAIVE)
def test_every_naive_rule_is_caught(rule: Rule) -> None:
    """The world can tell: each of the rules that others have shipped fails within these seeds, both ways."""
    found = [violation for seed in range(100) for violation in World(rule).run(random_script(seed))]
    assert any("issued to puts" in violation for violation in found)
    assert any("vanished" in violation for violation in found)


# Named scenarios: machine 0 is node a, machine 1 node b; the first state is the empty one, the next is of the first command.
LOST_RECORD = [Command("put"), Command("merge", 1, 1), Command("lose record"), Command("blind put")]
LOST_RECORD_COMES_BACK = [*LOST_RECORD, Command("merge", 0, 2), Command("put", 0, 4), Command("blind put")]
POWER_CUT = [Command("put"), Command("sync"), Command("put", 0, 1), Command("power cut"), Command("blind put")]
RESTORED_BACKUP = [Command("put"), Command("backup"), Command("put", 0, 1), Command("restore"), Command("blind put")]
COPIED_DIRECTORY = [Command("put"), Command("restart"), Command("copy directory"), Command("blind put"), Command("blind put", 2)]


@pytest.mark.parametrize(
    ("script", "caught"),
    [
        (LOST_RECORD, {no_epochs, epoch_per_process}),
        (LOST_RECORD_COMES_BACK, {no_epochs, epoch_per_process}),
        (POWER_CUT, {no_epochs, epoch_from_disk}),
        (RESTORED_BACKUP, {no_epochs, epoch_from_disk, clean_shutdown_marker}),
        (COPIED_DIRECTORY, {no_epochs, epoch_from_disk, clean_shutdown_marker}),
    ],
    ids=["lost record", "lost record comes back", "power cut", "restored backup", "copied directory"],
)
def test_named_scenarios(script: list[Command], caught: set[Rule]) -> None:
    assert World(store_rule).run(script) == []
    assert {rule for rule in NAIVE if World(rule).run(script)} == caught


def test_a_process_goes_on_with_its_own_epoch() -> None:
    """Continuity is what keeps clocks short: a thousand puts of one process on one key are one entry."""
    world = World(store_rule)
    assert world.run([Command("put", 0, number) for number in range(100)]) == []
    assert len(world.machines[0].record.object.clock) == 1


def choose(local: Siblings, mark: tuple[int, int], context: VectorClock | None = None) -> tuple[int, bool]:
    return local.epoch_choose(
        node=A, mark_nonce=mark[0], mark_epoch=mark[1], process_nonce=77, fresh_epoch=1000, context=context
    )


def test_each_condition_alone_ends_continuity() -> None:
    local = Siblings().put(b"v", node=A, epoch=5).put(b"v", node=A, epoch=5)
    assert choose(local, (77, 5)) == (5, False)
    assert choose(local, (77, 5), local.clock) == (5, False)
    assert choose(local, (78, 5)) == (1000, False)  # another process stored it
    assert choose(Siblings(), (77, 5)) == (1000, False)  # nothing here
    assert choose(local, (77, 6)) == (1000, False)  # the clock does not show the epoch
    assert choose(Siblings().put(b"v", node=B, epoch=5), (77, 5)) == (1000, False)  # another node's


def test_a_higher_counter_for_ones_own_epoch_is_alarming() -> None:
    local = Siblings().put(b"v", node=A, epoch=5)
    assert choose(local, (77, 5), VectorClock([(A, 5, 2, 0)])) == (1000, True)
    assert choose(local, (77, 5), VectorClock([(A, 6, 2, 0), (B, 5, 2, 0)])) == (5, False)
    ahead = local.put(b"w", node=A, epoch=5)
    assert local.epoch_survives_merge(local, node=A, mark_epoch=5)
    assert ahead.epoch_survives_merge(local, node=A, mark_epoch=5)
    assert not local.epoch_survives_merge(ahead, node=A, mark_epoch=5)
    assert local.epoch_survives_merge(ahead, node=A, mark_epoch=6)
    assert not Siblings().epoch_survives_merge(local, node=A, mark_epoch=5)


def test_a_dot_of_ones_own_epoch_in_a_cloud_is_alarming_if_it_is_not_held() -> None:
    """Somebody wrote on from a version that this node, by its mark, never made."""
    local = Siblings().put(b"v", node=A, epoch=5)
    theirs = Siblings().put(b"w", node=B, epoch=9, dot=(A, 5, 2, 0))
    assert not local.epoch_survives_merge(theirs, node=A, mark_epoch=5)
    assert local.epoch_survives_merge(theirs, node=A, mark_epoch=6)
    assert local.put(b"w", node=A, epoch=5).epoch_survives_merge(theirs, node=A, mark_epoch=5)
    assert choose(local.merge(theirs), (77, 5)) == (1000, True)
    assert choose(local.merge(theirs).merge(local.put(b"w", node=A, epoch=5)), (77, 5)) == (5, False)
    known = Siblings().put(b"w", node=B, epoch=9, dot=(A, 5, 1, 0))
    assert local.epoch_survives_merge(known, node=A, mark_epoch=5)
    assert choose(local.merge(known), (77, 5)) == (5, False)
