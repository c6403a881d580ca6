"""The planted bugs as they lie here: unified diffs, each with a comment that says what is wrong, and who alone can see it.

    # <one sentence on what is wrong> Breaks promise <number of docs/reliability.md>.
    # Seen by: <arguments for pytest>          (not given: the simulator; whoever changes data planes is looked for by its core tier first)

A patch is applied by what its hunks say, not by their line numbers: the lines of a hunk must stand in the file exactly once. So a patch
survives whatever happens elsewhere in the file, and one whose own place has changed is an error that names it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# What data planes are made of, and what decides who the members are, which is all that the core tier runs: the rest it cannot see.
OF_DATA_PLANES = re.compile(r"_ext/.*|dynamo_fast/(core|node|wire)/.*\.(pyx|pxd)|dynamo_fast/core/.*\.py")
PROMISE = re.compile(r"^# (.+\.) Breaks promise (\d+)\.$")
SEEN_BY = "# Seen by: "


class DoesNotApply(Exception):
    """The tree has changed where a patch wants to break it: mend the patch."""


@dataclass(frozen=True)
class Hunk:
    """The lines that stand in a file, and those that take their place."""

    file: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """One planted bug. `tests`: arguments for pytest, when whole simulated nodes cannot see it; none: they must."""

    name: str
    sentence: str
    promise: int
    tests: tuple[str, ...]
    hunks: tuple[Hunk, ...]

    @property
    def files(self) -> list[str]:
        """What it changes, each once."""
        return list(dict.fromkeys(hunk.file for hunk in self.hunks))

    @property
    def in_data_planes(self) -> bool:
        """Whether the core tier runs what it changes."""
        return any(OF_DATA_PLANES.fullmatch(file) for file in self.files)

    def broken(self, tree: Path) -> dict[str, str]:
        """The new content of each file that it changes; DoesNotApply when the tree is another one than it was made for."""
        contents: dict[str, str] = {}
        for hunk in self.hunks:
            path = tree / hunk.file
            if not path.is_file():
                raise DoesNotApply(f"{self.name}: there is no {hunk.file}")
            text = contents.get(hunk.file, path.read_text())
            before, after = "\n".join(hunk.before) + "\n", "\n".join(hunk.after) + "\n"
            places = [found.span() for found in re.finditer("^" + re.escape(before), text, re.MULTILINE)]
            if len(places) != 1:
                raise DoesNotApply(f"{self.name}: in {hunk.file} these lines stand {len(places)} times, not once:\n{before}")
            start, end = places[0]
            contents[hunk.file] = text[:start] + after + text[end:]
        return contents


def read(path: Path) -> Mutant:
    """The mutant in a file; ValueError when it is not written as above."""
    lines = path.read_text().split("\n")
    told = PROMISE.match(lines[0])
    if told is None:
        raise ValueError(f"{path.name}: the first line must say what is wrong and end in `Breaks promise <number>.`")
    tests = next((line.removeprefix(SEEN_BY) for line in lines if line.startswith(SEEN_BY)), "")
    return Mutant(path.stem, told[1], int(told[2]), tuple(shlex.split(tests)), tuple(hunks(path.name, lines)))


def hunks(name: str, lines: list[str]) -> list[Hunk]:
    found: list[Hunk] = []
    file, before, after = "", [], []
    for line in [*lines, "@@"]:
        if line.startswith(("@@", "--- ")) and (before or after):
            found.append(Hunk(file, tuple(before), tuple(after)))
            before, after = [], []
        if line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif line.startswith(("@@", "--- ", "#")) or (not line and not file):
            continue
        elif line:
            if not file or line[0] not in " +-":
                raise ValueError(f"{name}: {line!r} is no line of a unified diff")
            if line[0] != "+":
                before.append(line[1:])
            if line[0] != "-":
                after.append(line[1:])
    if not found:
        raise ValueError(f"{name}: there is no diff in it")
    return found


def everyone() -> list[Mutant]:
    """All planted bugs, by name."""
    return [read(path) for path in sorted(Path(__file__).parent.glob("*.patch"))]
