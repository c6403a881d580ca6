"""Workloads refuse what makes no sense, addresses are read as people write them, and a report says what is wrong."""

import re
from typing import Any

import pytest

from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import Report
from dynamo_fast.load.target import RespTarget
from dynamo_fast.load.workload import Workload, run
from tests.load.fake_server import FakeRedis, FakeServer


@pytest.mark.parametrize(("given", "message"), [
    ({"connections": 0}, "1..10000 connections"),
    ({"seconds": -1.0}, "0..86400 s"),
    ({"seconds": 0.0}, "give one of them"),
    ({"order": "once", "rate_per_s": 10.0}, "takes no rate"),
])
def test_a_workload_out_of_bounds_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Workload(**given)


@pytest.mark.parametrize(("given", "message"), [
    ({"depth": 0}, "depth of 1..65536"),
    ({"gets": 1.5}, "share of gets"),
    ({"rate_per_s": -1.0}, "rate of"),
    ({"connections": 6, "depth": 2}, "10 keys are too few for 12 requests in flight"),
    ({"order": "backwards"}, "uniform, zipf or once"),
    ({"zipf_exponent": 5.0}, "exponent"),
])
def test_a_run_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with FakeServer(FakeRedis()) as server, pytest.raises(ValueError, match=message):
        run(RespTarget([server.address]), KeySpace(10, 8, 8), Workload(**{"connections": 1, **given}))


def report(**given: Any) -> Report:
    figures: dict[str, Any] = {
        "rate_per_s": 10.0, "completed": 10, "answered": 12, "seconds": 1.0, "puts": None, "gets": None, "per_second": [10], "siblings": 0,
        "values_wrong": 0, "unanswered": 0,
    }
    return Report(**{**figures, **given})


@pytest.mark.parametrize(("given", "problem"), [
    ({"siblings": 2}, "2 gets showed siblings"),
    ({"values_wrong": 1}, "1 gets did not return"),
    ({"unanswered": 4}, "4 requests were never answered"),
    ({"completed": 0}, "nothing was answered"),
    ({"failures": {"OVERLOAD": 3}, "error_text": "try later"}, r"3 requests failed \(OVERLOAD\): try later"),
])
def test_each_thing_that_goes_wrong_is_a_problem(given: dict[str, Any], problem: str) -> None:
    assert report().problems == []
    found = report(**given)
    assert len(found.problems) == 1
    assert re.match(problem, found.problems[0])
    assert not found.as_dict()["ok"]
    assert any(found.problems[0] in line for line in found.lines())
