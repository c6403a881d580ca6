"""The scenarios under tests/scenarios/ show what they say. After a change that is meant:

    python -m dynamo_fast.testing.scenario tests/scenarios/*.txt --renew
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_fast.testing import scenario

FILES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file: Path) -> None:
    assert scenario.play(file.read_text()) == file.read_text()


def test_a_difference_is_shown_and_renewed_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.txt"
    file.write_text("# A key that is not there.\ncluster nodes=3 seed=1\nget key\n    a lie\n")
    assert scenario.main([str(file)]) == 1
    shown = capsys.readouterr().out
    assert "-    a lie\n" in shown
    assert "+    nothing, seen ()\n" in shown
    assert "a lie" in file.read_text()
    assert scenario.main([str(file), "--renew"]) == 0
    assert file.read_text() == "# A key that is not there.\ncluster nodes=3 seed=1\nget key\n    nothing, seen ()\n"
    assert scenario.main([str(file)]) == 0


@pytest.mark.parametrize("text", ["get key\n", "cluster\nwhat key\n", "cluster\nput\n"])
def test_lines_that_mean_nothing(text: str) -> None:
    with pytest.raises(scenario.ScenarioError):
        scenario.play(text)
