"""The agenda by itself: one order, and an end."""

from __future__ import annotations

import pytest

from dynamo_fast.testing.agenda import Agenda, Stuck


def test_calls_happen_at_their_moments_and_then_in_the_order_in_which_they_were_made() -> None:
    agenda, happened = Agenda(), []
    for number, when_s in enumerate((3, 1, 3, 2, -1)):
        agenda.at(when_s, happened.append, (when_s, number))
    agenda.run(2.5)
    assert happened == [(-1, 4), (1, 1), (2, 3)]
    assert agenda.now == 2.5
    agenda.after(0.5, happened.append, "later")
    agenda.run(3)
    assert happened[3:] == [(3, 0), (3, 2), "later"]
    assert agenda.events == 6


def test_what_never_ends_is_stuck() -> None:
    agenda = Agenda(events_max=100)

    def again() -> None:
        agenda.after(0, again)

    again()
    with pytest.raises(Stuck, match=r"101 events in 0\.000 s"):
        agenda.run(1)
