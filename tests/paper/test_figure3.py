"""Figure 3 of the Dynamo paper, verbatim: versions D1 to D5 of one object and the clocks that the figure writes beside them.

The figure's Sx, Sy, Sz are the nodes that handle the writes. It is told twice: with bare clocks, as the paper does, and
with objects that hold siblings, as the store does.
"""

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.vector_clock import Order, VectorClock

SX, SY, SZ = (name.ljust(16, b"\0") for name in (b"Sx", b"Sy", b"Sz"))


def clock(**counters: int) -> VectorClock:
    """The figure's notation: clock(Sx=2, Sy=1) is ([Sx, 2], [Sy, 1])."""
    return VectorClock((name.encode().ljust(16, b"\0"), 0, counter, 0) for name, counter in counters.items())


def test_clocks_of_figure_3() -> None:
    d1 = VectorClock().advance(SX)  # "write handled by Sx"
    assert d1 == clock(Sx=1)

    d2 = d1.advance(SX)  # "write handled by Sx"
    assert d2 == clock(Sx=2)
    assert d2.compare(d1) is Order.AFTER  # D2 descends from D1 and therefore over-writes D1
    assert d2.descends(d1)

    d3 = d2.advance(SY)  # "write handled by Sy"
    assert d3 == clock(Sx=2, Sy=1)

    d4 = d2.advance(SZ)  # "write handled by Sz"
    assert d4 == clock(Sx=2, Sz=1)

    # A node that knows D1 or D2 can determine upon receiving D4 that both are overwritten by the new data.
    assert d4.descends(d1)
    assert d4.descends(d2)
    # A node that is aware of D3 and receives D4 will find that there is no causal relation between them.
    assert d3.compare(d4) is Order.CONCURRENT
    assert not d3.descends(d4)
    assert not d4.descends(d3)

    # "reconciled and written by Sx": the context of the read is a summary of the clocks of D3 and D4.
    summary = d3.merge(d4)
    assert summary == clock(Sx=2, Sy=1, Sz=1)
    d5 = summary.advance(SX)
    assert d5 == clock(Sx=3, Sy=1, Sz=1)
    for earlier in (d1, d2, d3, d4):
        assert d5.compare(earlier) is Order.AFTER


def test_versions_of_figure_3() -> None:
    at_sx = Siblings().put(b"D1", node=SX)
    assert at_sx.clock == clock(Sx=1)
    at_sx = at_sx.put(b"D2", node=SX, context=at_sx.clock)
    assert at_sx.values == (b"D2",)
    assert at_sx.clock == clock(Sx=2)

    # D2 has reached Sy and Sz, which then each take a write by a client that has read it.
    at_sy = at_sx.put(b"D3", node=SY, context=at_sx.clock)
    at_sz = at_sx.put(b"D4", node=SZ, context=at_sx.clock)
    assert (at_sy.values, at_sy.clock) == ((b"D3",), clock(Sx=2, Sy=1))
    assert (at_sz.values, at_sz.clock) == ((b"D4",), clock(Sx=2, Sz=1))

    read = Siblings.reconcile([at_sx, at_sy, at_sz])
    assert set(read.values) == {b"D3", b"D4"}
    assert read.clock == clock(Sx=2, Sy=1, Sz=1)

    written = at_sx.put(b"D5", node=SX, context=read.clock)
    assert written.values == (b"D5",)
    assert written.clock == clock(Sx=3, Sy=1, Sz=1)
    for replica in (at_sx, at_sy, at_sz, read):
        assert replica.merge(written) == written
