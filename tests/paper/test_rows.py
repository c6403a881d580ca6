"""What `make paper` judges of the figures that a real cluster gives: the direction, from figures made up here."""

from __future__ import annotations

from collections import Counter

from bench.paper import figure5, table2, versions


def test_section_6_3_wants_nearly_all_reads_to_see_one_version_and_each_further_one_to_be_rarer() -> None:
    def judged(seen: dict[int, int]) -> list[bool]:
        return [row.ok for row in versions.rows(Counter(seen))]

    assert judged({1: 9990, 2: 8, 3: 2}) == [True] * 4
    assert judged({1: 9800, 2: 200}) == [False, True, True, True]
    assert judged({1: 9990, 2: 3, 3: 7}) == [True, True, False, True]
    assert judged({1: 1000}) == [True, False, True, True]  # writers that never met


def test_figure_5_compares_neighbours_in_time() -> None:
    def slices(buffered: list[float], durable: list[float]) -> list[figure5.Slice]:
        pairs = zip(buffered, durable, strict=True)
        return [figure5.Slice(dw, p999 / 10, p999) for pair in pairs for dw, p999 in zip((0, 2), pair, strict=True)]

    *_, factor = figure5.rows(slices([1, 50, 2], [5, 60, 10]))
    assert (factor.figure, factor.ok) == (5, True)
    *_, factor = figure5.rows(slices([10, 50, 2], [5, 40, 10]))
    assert not factor.ok
    assert [row.figure for row in figure5.rows(slices([1, 3, 2], [4, 6, 5]))][:4] == [0.2, 2, 0.5, 5]


def test_table_2_wants_the_median_to_be_lower_with_the_client_in_charge() -> None:
    found: table2.Found = {}
    for mode, ms in (("client-driven", 1), ("server-driven", 2)):
        for operation in ("get", "put"):
            found[mode, operation] = table2.Latencies(p50s_ns=[ms * 1_000_000] * 3)
            found[mode, operation].all.record(ms * 1_000_000)
    found["client-driven", "put"].p50s_ns = [3_000_000] * 3
    assert {row.name: row.ok for row in table2.rows(found) if "p50" in row.name} == {
        "get p50, client-driven": True, "get p50, server-driven": True, "put p50, client-driven": False, "put p50, server-driven": False,
    }  # fmt: skip
