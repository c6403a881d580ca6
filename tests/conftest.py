"""What holds for every test: properties are drawn the same way each time, and no test leaves a process behind."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

# The same examples on every run, so that a failure is a failure for everybody. HYPOTHESIS_PROFILE is not read on purpose:
# to explore, say --hypothesis-profile=explore, and put what it finds into an @example.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True, max_examples=2000)
hypothesis.settings.load_profile("repeatable")


def children() -> set[str]:
    """The processes that this one has started and that still run or wait to be collected."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended since it was listed
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left() -> Iterator[None]:
    """Whatever the tests of a module start, they end: a node left running would disturb all that come after it."""
    before = children()
    yield
    left = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in children() - before}
    assert not left, f"still running: {left}"
