"""The data directory on the machine's own disk: made once, kept, and refused in one sentence when it is not ours to use."""

from pathlib import Path

import pytest

from dynamo_fast.core.membership import History, NodeEntry, make_record
from dynamo_fast.disk import Disk
from dynamo_fast.env import RealEnv
from dynamo_fast.node.birth import Roll
from dynamo_fast.node.identity import DirectoryRefused, open_directory

ENV = RealEnv(Disk())


def history() -> History:
    own = NodeEntry(id=b"n" * 16, address="a:1", host="h")
    birth = Roll(["a:1"], own).birth(64, 3, ENV.random_bytes)
    return History([make_record(birth, author=own.id, time=1)])


def refusal(path: Path) -> str:
    with pytest.raises(DirectoryRefused) as raised:
        open_directory(path, ENV)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_the_id_is_made_once_and_the_history_is_kept(tmp_path: Path) -> None:
    first = open_directory(tmp_path / "deep" / "data", ENV)
    assert len(first.node_id) == 16
    assert len(first.load_history()) == 0
    kept = history()
    first.save_history(kept)
    first.close()
    again = open_directory(tmp_path / "deep" / "data", ENV)
    assert again.node_id == first.node_id
    assert again.load_history().view == kept.view
    again.close()
    other = open_directory(tmp_path / "other", ENV)
    assert other.node_id != first.node_id
    other.close()


def test_a_directory_in_use_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, ENV)
    assert refusal(tmp_path) == f"{tmp_path} is in use by another process"
    opened.close()
    open_directory(tmp_path, ENV).close()


def test_a_foreign_directory_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    assert f"{tmp_path} is not a data directory of dynamo-fast: it holds letters" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "is not a directory" in refusal(tmp_path / "data")
    assert "is not a directory" in refusal(tmp_path / "data" / "below")


def test_another_format_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, ENV).close()
    (tmp_path / "FORMAT").write_text("999\n")
    assert "has data format 999, newer than format 1" in refusal(tmp_path)
    (tmp_path / "FORMAT").write_text("soup")
    assert "has data format soup, not format 1" in refusal(tmp_path)


def test_a_first_start_that_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    open_directory(tmp_path, ENV).close()
    (tmp_path / "identity.json").unlink()
    (tmp_path / "starts").unlink()  # which is written after it
    open_directory(tmp_path, ENV).close()
    assert (tmp_path / "identity.json").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"node_id": "short"}', '{"node_id": 7}'])
def test_a_damaged_identity_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    open_directory(tmp_path, ENV).close()
    (tmp_path / "identity.json").write_text(text)
    assert "cannot be read as an identity" in refusal(tmp_path)
    assert (tmp_path / "identity.json").read_text() == text


def test_starts_are_counted_and_a_count_that_is_none_is_refused(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        opened = open_directory(tmp_path, ENV)
        assert opened.starts == number
        opened.close()
    (tmp_path / "starts").write_text("-1")
    assert "starts is damaged" in refusal(tmp_path)


def test_a_damaged_history_is_refused(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, ENV)
    opened.save_history(history())
    data = bytearray((tmp_path / "membership").read_bytes())
    data[-1] ^= 1
    (tmp_path / "membership").write_bytes(data)
    with pytest.raises(DirectoryRefused, match="damaged"):
        opened.load_history()
    opened.close()
