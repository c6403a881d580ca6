"""Rare branches taken on purpose: the seed alone says which, a real machine never does, and every site in the code gets its turn."""

import re
from pathlib import Path

from dynamo_fast.env import RealEnv
from dynamo_fast.testing.rare import Rare

PACKAGE = Path(__file__).parents[2] / "dynamo_fast"
SITE = re.compile(r'rarely\("([^"]+)"\)')


def sites() -> set[str]:
    return {site for file in (PACKAGE / "node").glob("*.py") for site in SITE.findall(file.read_text())}


def test_the_same_seed_takes_the_same_branches() -> None:
    asked = ["one", "two", "one", "three"] * 500
    one, again, other = Rare(1), Rare(1), Rare(2)
    assert [one.strike(site) for site in asked] == [again.strike(site) for site in asked]
    assert one.counts == again.counts
    assert [one.strike(site) for site in asked] != [other.strike(site) for site in asked]


def test_every_site_is_on_in_some_seed_and_off_in_another() -> None:
    named = sites()
    assert len(named) >= 10
    for site in named:
        taken = [any(map(Rare(seed).strike, [site] * 200)) for seed in range(40)]
        assert 4 < sum(taken) < 25, site


def test_a_real_machine_takes_none() -> None:
    env = RealEnv(disk=None)  # type: ignore[arg-type]
    assert not any(env.rarely(site) for site in sites() for _ in range(100))
