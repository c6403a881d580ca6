"""Status codes: three outcomes by range, and one set of numbers in Python and in C."""

import re
from pathlib import Path

import pytest

from dynamo_fast.wire.status import MessageType, Outcome, Status, outcome_of

HEADER = (Path(__file__).parents[2] / "_ext/messages.h").read_text()


def c_enum(prefix: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(rf"\b{prefix}_([A-Z_]+) = (\d+)", HEADER)}


def test_statuses_are_those_of_the_c_header() -> None:
    assert {status.name: status.value for status in Status} == c_enum("STATUS")


def test_types_are_those_of_the_c_header() -> None:
    names = {name: number for name, number in c_enum("MESSAGE").items() if not name.endswith(("MAX", "BYTES", "DEFAULT"))}
    assert {type.name: type.value for type in MessageType} == names


def test_a_reply_is_its_request_plus_one() -> None:
    for type in MessageType:
        if type.name.endswith("_REPLY"):
            assert MessageType[type.name.removesuffix("_REPLY")] == type - 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (Status.OK, Outcome.OK),
        (Status.NOT_FOUND, Outcome.OK),
        (Status.OVERLOAD, Outcome.NOT_APPLIED),
        (Status.NOT_ENOUGH_REPLICAS, Outcome.NOT_APPLIED),
        (Status.QUORUM_FAILED, Outcome.UNKNOWN),
        (Status.DEADLINE, Outcome.UNKNOWN),
    ],
)
def test_outcomes(status: Status, outcome: Outcome) -> None:
    assert status.outcome is outcome


def test_a_status_that_is_not_known_yet_has_an_outcome() -> None:
    assert [outcome_of(n) for n in (15, 16, 63, 64, 65535)] == [
        Outcome.OK, Outcome.NOT_APPLIED, Outcome.NOT_APPLIED, Outcome.UNKNOWN, Outcome.UNKNOWN,
    ]
    for wrong in (-1, 65536):
        with pytest.raises(ValueError, match="65535"):
            outcome_of(wrong)
