"""Commands that measure add to what others have measured, and say by their exit code whether a target was missed."""

import json
from pathlib import Path

import pytest

from bench.compare.rows import Row
from tests.reliability import substitutes
from tests.reliability.rows import append, read_rows, report


def test_rows_are_appended_with_what_was_done(tmp_path: Path) -> None:
    output = tmp_path / "build" / "reliability.json"
    append(output, [(Row("lost", 0.0, "writes", 0.0, at_most=True), {"kills": 3})], seconds=1.5)
    append(output, [(Row("success", 99.9, "%", 100.0), {}), (Row("lost", 1.0, "writes", 0.0, at_most=True), {})], seconds=2.0)
    rows = read_rows(output)
    assert [(row["name"], row["figure"], row["target"], row["ok"]) for row in rows] == [
        ("lost", 0.0, 0.0, True), ("success", 99.9, 100.0, False), ("lost", 1.0, 0.0, False),
    ]  # fmt: skip
    assert rows[0]["evidence"] == {"kills": 3}
    assert {"command", "commit", "seconds", "began"} <= rows[1].keys()
    assert json.loads(output.read_text())["machine"]["cpus"]


@pytest.mark.parametrize(("figure", "code"), [(5.0, 0), (5.1, 1)])
def test_a_missed_target_is_the_exit_code(tmp_path: Path, figure: float, code: int) -> None:
    assert report(tmp_path / "rows.json", lambda: [(Row("failed", figure, "per million", 5, at_most=True), {"requests": 1})]) == code
    assert read_rows(tmp_path / "rows.json")[0]["ok"] is not bool(code)


def test_the_load_of_a_dead_node_is_spread_over_all_others() -> None:
    [(row, evidence)] = substitutes.measure(placements=3)
    assert row.ok, row
    assert row.figure > 1.0
    assert evidence["placements"] == 3
