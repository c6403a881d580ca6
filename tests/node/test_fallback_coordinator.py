"""A node that can reach no home of a key coordinates its put itself, as what it is: a substitute."""

from __future__ import annotations

from dynamo_fast.node.config import LimitsSection
from dynamo_fast.wire.status import Status
from tests.node.absent import KEY, kill, mend, order, owed
from tests.node.planes import Planes


def test_a_node_that_can_reach_no_home_coordinates_itself() -> None:
    cluster = Planes(6)
    a, b, c, d, e, f = order(cluster)
    kill(cluster, a, b, c)
    answer = cluster.put(f, KEY, b"v", w=3)
    assert answer.status == Status.OK
    assert owed(cluster, f) == 1 << 0
    assert {owed(cluster, d), owed(cluster, e)} == {1 << 1, 1 << 2}
    assert cluster.get(e, KEY, r=2).values == [b"v"]
    replaced = cluster.put(d, KEY, b"w", context=answer.context, w=1)
    assert replaced.status == Status.OK
    assert cluster.get(d, KEY, r=3).values == [b"w"]


def test_what_nobody_stands_in_for_the_coordinator_keeps_for() -> None:
    cluster = Planes(4)
    homes, (outsider,) = cluster.homes(KEY), cluster.ring.fallbacks(KEY)
    kill(cluster, *homes)
    assert cluster.put(outsider, KEY, b"v", w=1).status == Status.OK
    assert owed(cluster, outsider) == 0b111
    assert cluster.put(outsider, KEY, b"v", w=2).status == Status.NOT_ENOUGH_REPLICAS


def test_as_long_as_a_home_can_be_asked_it_is_asked() -> None:
    cluster = Planes(5)
    a, b, c, _d, e = order(cluster)
    kill(cluster, a, b)
    assert cluster.put(e, KEY, b"v", w=1).status == Status.OK
    assert cluster.packed(c, KEY) is not None
    assert cluster.nodes[e].count("forwards") == 1
    assert cluster.nodes[c].count("puts") == 1


def test_a_fallback_full_of_hints_refuses_before_anything_is_written() -> None:
    cluster = Planes(5, limits=LimitsSection(hint_bytes_max=1000))
    a, b, c, d, _e = order(cluster)
    kill(cluster, a, b, c)
    assert cluster.put(d, KEY, b"v", w=1).status == Status.OK
    answer = cluster.put(d, KEY, bytes(2000), w=1)
    assert answer.status == Status.OVERLOAD
    assert "nothing was written" in answer.text
    assert cluster.copy(d, KEY).values == (b"v",)


def test_strict_requests_find_no_fallback_coordinator() -> None:
    cluster = Planes(5)
    kill(cluster, *cluster.homes(KEY))
    outsider = cluster.ring.fallbacks(KEY)[0]
    assert cluster.put(outsider, KEY, b"v", w=1, strict=True).status == Status.NOT_ENOUGH_REPLICAS
    assert cluster.get(outsider, KEY, r=1, strict=True).status == Status.NOT_ENOUGH_REPLICAS


def test_dots_of_a_fallback_are_its_own() -> None:
    """What a substitute writes without having seen the homes' versions stands beside them, and neither is lost."""
    cluster = Planes(6)
    a, b, c, d, e, f = order(cluster)
    first = cluster.put(a, KEY, b"before", w=3)
    kill(cluster, a, b, c)
    cluster.put(d, KEY, b"blind", w=1)
    cluster.put(e, KEY, b"after", context=first.context, w=1)
    mend(cluster)
    merged = cluster.get(a, KEY, r=3).values
    assert merged == [b"before"], "nothing has gone home yet"
    for node in (d, e, f):
        packed = cluster.packed(node, KEY)
        if packed is not None:
            assert cluster.nodes[a].plane.merge_entries([(b"", KEY, packed)])[0][0] == Status.OK
    assert cluster.get(a, KEY, r=3).values == [b"after", b"blind"]
