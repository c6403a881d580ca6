"""The planted bugs can be planted: every patch says what it breaks, applies to this tree, and stands in docs/testing.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutants.patches import ROOT, DoesNotApply, everyone, read

MUTANTS = everyone()
PATCH = """# The answer is wrong. Breaks promise 8.
# Seen by: tests/some/test_answer.py
--- a/answer.py
+++ b/answer.py
@@ -1,3 +1,3 @@
 def answer():
-    return 42
+    return 41

"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_patch_applies(mutant) -> None:
    for name, text in mutant.broken(ROOT).items():
        assert text != (ROOT / name).read_text()
        if name.endswith(".py"):
            ast.parse(text)
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), f"{mutant.name} names a test that is not there"


def test_there_are_enough_and_each_stands_in_the_docs() -> None:
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs" / "testing.md").read_text(), re.MULTILINE)
    assert sorted(documented) == [mutant.name for mutant in MUTANTS]
    assert len(MUTANTS) >= 40


def test_every_broken_promise_is_one_that_is_made() -> None:
    made = {int(number) for number in re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE)}
    assert {mutant.promise for mutant in MUTANTS} <= made


def test_a_patch_goes_by_its_lines_and_says_when_they_are_gone(tmp_path: Path) -> None:
    (tmp_path / "wrong-answer.patch").write_text(PATCH)
    mutant = read(tmp_path / "wrong-answer.patch")
    assert (mutant.name, mutant.sentence, mutant.promise) == ("wrong-answer", "The answer is wrong.", 8)
    assert mutant.tests == ("tests/some/test_answer.py",)
    there = tmp_path / "answer.py"
    there.write_text("import this\n\n\ndef answer():\n    return 42\n")
    assert mutant.broken(tmp_path) == {"answer.py": "import this\n\n\ndef answer():\n    return 41\n"}
    for text in ("def answer():\n    return 43\n", 2 * "def answer():\n    return 42\n"):
        there.write_text(text)
        with pytest.raises(DoesNotApply, match=r"wrong-answer: in answer\.py these lines stand"):
            mutant.broken(tmp_path)
    there.unlink()
    with pytest.raises(DoesNotApply, match=r"there is no answer\.py"):
        mutant.broken(tmp_path)


@pytest.mark.parametrize("text", ["", PATCH.replace(" Breaks promise 8.", ""), PATCH.partition("---")[0], PATCH + "and so on\n"])
def test_what_is_no_patch_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.patch").write_text(text)
    with pytest.raises(ValueError, match=r"odd\.patch"):
        read(tmp_path / "odd.patch")
