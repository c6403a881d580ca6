"""The umbrella over all commands: what they tell is gathered, and one that tells nothing is a missed target."""

import json
from pathlib import Path

import pytest

from tests.reliability.__main__ import PARTS, Part, play, show
from tests.reliability.rows import read_rows


def test_shares_are_of_one_whole() -> None:
    assert sum(part.share for part in PARTS) == pytest.approx(1.0)
    assert len({part.name for part in PARTS}) == len(PARTS)


@pytest.mark.parametrize("seconds", [1.0, 60.0, 3600.0])
def test_every_part_has_something_to_do_in_any_time(seconds: float) -> None:
    for part in PARTS:
        command = part.command(seconds)
        assert all(float(word) > 0 for word in command if word.replace(".", "").isdigit()), command


def test_rows_are_gathered_from_commands_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "rows.json"
    play(Part("own", 0.5, "tests.reliability.substitutes", lambda seconds: ["--placements", 1]), 1.0, output)
    assert [row["ok"] for row in read_rows(output)] == [True]
    play(Part("code", 0.5, "this", lambda seconds: [], tells="exit"), 1.0, output)
    assert [row["name"] for row in read_rows(output)][1:] == ["code: runs that failed"]
    assert show(output)
    told = [{"name": "lost", "figure": 1, "unit": "images", "target": 0, "ok": False}, {"name": "opened", "figure": 7, "unit": "images",
             "target": 5, "ok": True}, {"name": "so many", "figure": 3, "unit": "s", "target": None, "ok": True}]  # fmt: skip
    script = f"import pathlib, sys; pathlib.Path(sys.argv[-1]).write_text({json.dumps(json.dumps(told))})"
    (tmp_path / "teller.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    play(Part("json", 0.5, "teller", lambda seconds: [], tells="json"), 1.0, output)
    assert [(row["name"], row["ok"]) for row in read_rows(output)][2:] == [("json: lost", False), ("json: opened", True)]
    assert not show(output)


def test_a_command_that_says_nothing_has_failed(tmp_path: Path) -> None:
    output = tmp_path / "rows.json"
    play(Part("mute", 0.5, "tests.no_such_module", lambda seconds: []), 1.0, output)
    assert not show(output)
