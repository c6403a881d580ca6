"""Ten kills with SIGKILL under load: every acknowledged write is found. `make crash KILLS=100` runs more of the same."""

from pathlib import Path

import pytest
import trio

from tests.live.crash import ACKS_PER_KILL, Edit, crash, lost_edits

pytestmark = pytest.mark.live


def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    tally = trio.run(crash, tmp_path, 10, 20071014)
    assert tally.kills == 10
    assert tally.acks >= 10 * ACKS_PER_KILL
    assert tally.checkpoints > 0, "records were on their way to LMDB while nodes were killed"


def test_the_checker_sees_a_lost_edit() -> None:
    """A closure check that cannot fail proves nothing."""
    edits = {
        b"1": Edit(b"k", frozenset(), "acked"),
        b"2": Edit(b"k", frozenset([b"1"]), "unknown"),
        b"3": Edit(b"k", frozenset(), "acked"),
        b"4": Edit(b"k", frozenset(), "not applied"),
    }
    assert lost_edits(edits, {b"k": frozenset([b"2", b"3"])}) == []
    assert lost_edits(edits, {b"k": frozenset([b"2"])}) == ["b'k' lost b'3'"]
    assert lost_edits(edits, {b"k": frozenset([b"3"])}) == ["b'k' lost b'1'"]
    assert len(lost_edits(edits, {b"k": frozenset([b"2", b"3", b"4", b"5"])})) == 2
