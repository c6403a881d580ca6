"""The comparison's own arithmetic: ratios by round, directions of targets, JSON, the soak's minutes, the gate's tolerance."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import toml
from bench.compare.plan import runs
from bench.compare.rows import Row, p50, ratio, server_cpu, server_rows, write_json
from bench.compare.sides import ComparisonFailed, Measurement, Side, measure_with_checkpoints, require
from bench.compare.soak import last_to_first
from bench.compare.storage import StorageFigures
from bench.gate.__main__ import compare, total
from bench.processes import cpu_seconds, resident_bytes, with_descendants
from dynamo_fast.core.histogram import Histogram
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import Report
from dynamo_fast.load.target import RespTarget
from dynamo_fast.load.workload import Workload
from tests.load.fake_server import FakeRedis, FakeServer


def measurement(rate_per_s: float, cpu_us: float = 10.0, latency_ns: int = 50, **given: Any) -> Measurement:
    histogram = Histogram()
    histogram.record(latency_ns)
    report = Report(rate_per_s=rate_per_s, completed=10, answered=12, seconds=1.0, puts=histogram.as_dict(), gets=None,
                    per_second=[10], siblings=0, values_wrong=0, unanswered=0)
    return Measurement("side", 1.0, replace(report, **given), cpu_us)


def test_a_ratio_is_the_median_of_each_rounds_own() -> None:
    rounds = {
        "ours": [measurement(10, 20, 3), measurement(30, 30, 3), measurement(50, 60, 3)],
        "theirs": [measurement(10, 10, 2), measurement(10, 10, 1), measurement(100, 60, 1)],
    }
    assert ratio(rounds, "ours", "theirs") == 1.0
    assert ratio(rounds, "ours", "theirs", server_cpu) == 2.0
    assert ratio(rounds, "ours", "theirs", p50) == 3.0


def test_a_target_is_reached_from_its_own_side() -> None:
    assert Row("throughput", 0.8, "x", 0.8).ok
    assert not Row("throughput", 0.79, "x", 0.8).ok
    assert Row("cost", 2.4, "x", 2.4, at_most=True).ok
    assert not Row("cost", 2.41, "x", 2.4, at_most=True).ok


def test_every_row_of_the_table_comes_from_the_plan(tmp_path: Path) -> None:
    rounds = {name: [measurement(1)] for name in runs(seconds=1, warmup_s=0)}
    rows = server_rows(rounds)
    assert len(rows) == 10
    write_json(tmp_path / "new" / "compare.json", rows, rounds, {"cpus": 2})
    written = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert [set(row) for row in written["rows"]] == [{"name", "figure", "unit", "target", "at_most", "ok"}] * 10
    assert list(written["runs"]) == list(rounds)


def test_the_last_minute_is_a_tenth_in_short_runs() -> None:
    assert last_to_first(measurement(1, per_second=[100] * 60 + [50] * 480 + [90] * 60)) == 0.9
    assert last_to_first(measurement(1, per_second=[10, 10, *[1] * 16, 8, 8])) == 0.8


def test_figures_of_storage_are_differences_but_for_the_log() -> None:
    before, now = StorageFigures([0, 0], [1, 1], [0, 0], [5, 5]), StorageFigures([100, 90], [4, 3], [70, 60], [7, 8])
    assert now.since(before) == StorageFigures([100, 90], [3, 2], [70, 60], [7, 8])


def test_a_run_that_spans_too_few_checkpoints_is_repeated_twice_as_long() -> None:
    checkpoints = iter([[0, 0], [3, 2], [3, 2], [6, 5]])
    with FakeServer(FakeRedis()) as server:
        side = Side("fake", RespTarget([server.address]), KeySpace(100, 8, 8), [os.getpid()],
                    lambda: StorageFigures([0, 0], next(checkpoints), [0, 0], [0, 0]))
        measured = measure_with_checkpoints(side, Workload(connections=2, seconds=0.05, warmup_s=0))
    assert measured.seconds == 0.1
    assert measured.storage == StorageFigures([0, 0], [3, 3], [0, 0], [0, 0])


def test_a_run_with_problems_does_not_count() -> None:
    side = Side("fake", RespTarget([("127.0.0.1", 1)]), KeySpace(100, 8, 8), [])
    with pytest.raises(ComparisonFailed, match="fake: 1 gets showed siblings"):
        require(side, replace(measurement(1).report, siblings=1))


def test_processes_are_accounted_with_what_they_started() -> None:
    me = os.getpid()
    assert me in with_descendants([os.getppid()])
    own_s = cpu_seconds([me])
    assert cpu_seconds([os.getppid()]) >= own_s > 0.0
    assert resident_bytes([me]) > 1 << 20
    assert with_descendants([1 << 30]) == set()


def test_settings_become_a_configuration_file() -> None:
    assert toml({"storage": {"engine": "lmdb", "log_bytes_max": 5}, "node": {"insecure_listen": False}}) == (
        '[storage]\nengine = "lmdb"\nlog_bytes_max = 5\n\n[node]\ninsecure_listen = false\n'
    )


def test_the_gate_holds_within_five_percent(capsys: pytest.CaptureFixture[str]) -> None:
    recorded = {"ring lookup": 1000.0}
    assert compare({"ring lookup": 1049.0}, recorded)
    assert compare({"ring lookup": 951.0}, recorded)
    assert not compare({"ring lookup": 1051.0}, recorded)
    assert not compare({"ring lookup": 949.0}, recorded)
    assert not compare({"ring lookup": 1000.0, "new": 5.0}, recorded)
    assert not compare({}, recorded)
    assert "+5.1%" in capsys.readouterr().out


def test_the_gate_reads_callgrinds_files(tmp_path: Path) -> None:
    (tmp_path / "out.1").write_text("version: 1\nevents: Ir\nsummary: 12345\n\nfl=x\n1 12345\ntotals: 12345\n")
    (tmp_path / "out.2").write_text("version: 1\nevents: Ir\ntotals: 7\n")
    assert total(tmp_path / "out.1") == 12345
    assert total(tmp_path / "out.2") == 7
