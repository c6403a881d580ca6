"""The floors of the house, as a rule that is checked: imports point down, and one seam leads to the world.

Reads every .py, .pyx and .pxd of the package and every file of _ext/; runs nothing of them. What each floor may import
is in FLOORS; what it may touch of the outside world is in OUTSIDE.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dynamo_fast"

# From the ground up. Folders on one line are neighbours: neither imports the other.
FLOORS: list[set[str]] = [
    {"core"},
    {"wire"},
    {"disk"},
    {"env"},
    {"storage", "net"},
    {"client", "node", "load"},
    {"admin", "testing"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(FLOORS) for name in names}

# Clocks, chance, sockets, threads and processes. C libraries are named as Cython cimports them.
CLOCKS = {"time", "datetime", "libc.time", "posix.time"}
CHANCE = {"random", "secrets", "uuid"}
SOCKETS = {"socket", "select", "selectors", "ssl", "posix.select"}
SYSTEM = {"os", "shutil", "subprocess", "threading", "multiprocessing", "signal", "asyncio", "trio", "posix", "tempfile"}

# floor -> what no module of it may import, and the files excepted because they are the seam, with the reason.
OUTSIDE: dict[str, set[str]] = {
    "core": CLOCKS | CHANCE | SOCKETS | SYSTEM,
    "wire": CLOCKS | CHANCE | SOCKETS | SYSTEM,
    "storage": CLOCKS | CHANCE | SOCKETS,
    "node": CLOCKS | CHANCE | SOCKETS,
}
EXCEPTED: dict[str, set[str]] = {}

SOURCES = sorted(path for suffix in ("py", "pyx", "pxd", "pyi") for path in PACKAGE.rglob(f"*.{suffix}"))
EXT_SOURCES = sorted((ROOT / "_ext").glob("*.[ch]"))

_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<source>[.\w]+)\s+c?import\s+(?P<names>\([^)]*\)|[^\n#]+)|c?import\s+(?P<plain>[^\n#]+))",
    re.MULTILINE,
)


def module_of(path: Path) -> str:
    """dynamo_fast/core/ring.pxd -> core.ring; the package's own __init__ -> the empty string."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def floor_of(module: str) -> str:
    return module.split(".")[0]


def without_strings(text: str) -> str:
    """The text with docstrings and comments blanked, so that prose which says "import x" is not taken for code."""
    text = re.sub(r'("""|\'\'\')(?:.|\n)*?\1', '""', text)
    return re.sub(r"(?m)#.*$", "", text)


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports or cimports, absolute, with the imported name where that may be a module."""
    text = path.read_text()
    if path.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = resolve(path, "." * node.level + (node.module or ""))
                yield from (f"{source}.{alias.name}" for alias in node.names)
        return
    for found in _IMPORT.finditer(without_strings(text)):
        if found["plain"]:
            yield from (name.split(" as ")[0].strip() for name in found["plain"].split(","))
        else:
            source = resolve(path, found["source"])
            names = found["names"].strip("() \n").replace("\n", " ").split(",")
            yield from (f"{source}.{name.split(' as ')[0].strip()}" for name in names if name.strip())


def resolve(path: Path, source: str) -> str:
    """A relative import as an absolute one."""
    if not source.startswith("."):
        return source
    level = len(source) - len(source.lstrip("."))
    package = ["dynamo_fast", *path.relative_to(PACKAGE).parts[:-1]]
    base = package[: len(package) - (level - 1)]
    return ".".join([*base, *filter(None, [source.lstrip(".")])])


def names(module: str, forbidden: set[str]) -> set[str]:
    """Which of the forbidden modules the dotted name reaches into: time.monotonic reaches into time."""
    return {name for name in forbidden if module == name or module.startswith(name + ".")}


def test_every_folder_has_a_floor() -> None:
    found = {floor_of(module_of(path)) for path in SOURCES} - {""}
    assert found <= set(RANK), f"no floor is named for {sorted(found - set(RANK))}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    floor = floor_of(module)
    wrong = []
    for name in imported(path):
        if not name.startswith("dynamo_fast."):
            continue
        other = floor_of(name.removeprefix("dynamo_fast."))
        # The package's own face, dynamo_fast.connect and the version, hides the client; it stands above everything.
        if floor == "" or other not in RANK or other == floor:
            continue
        if RANK[other] >= RANK[floor] or other == "testing":
            wrong.append(name)
    assert not wrong, f"{module} (floor {floor}) imports {sorted(set(wrong))}, which does not lie below it"


SEALED = [path for path in SOURCES if floor_of(module_of(path)) in OUTSIDE]


@pytest.mark.parametrize("path", SEALED, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_seam_to_the_world(path: Path) -> None:
    module = module_of(path)
    forbidden = OUTSIDE[floor_of(module)] - EXCEPTED.get(module, set())
    wrong = sorted({reached for name in imported(path) for reached in names(name, forbidden)})
    assert not wrong, f"{module} imports {wrong}; clocks, chance, sockets and the system are env's and net's to touch"


@pytest.mark.parametrize("path", EXT_SOURCES, ids=lambda path: path.name)
def test_c_stands_alone(path: Path) -> None:
    """The C of _ext/ knows no Python and takes no memory: whoever calls it owns both."""
    text = re.sub(r"/\*(?:.|\n)*?\*/|//.*", "", path.read_text())
    assert "Python.h" not in text
    taken = re.findall(r"\b(malloc|calloc|realloc|strdup|free)\s*\(", text)
    assert not taken, f"{path.name} takes or frees memory: {sorted(set(taken))}"
    headers = set(re.findall(r"#include\s+<([^>]+)>", text))
    outside = headers & {"time.h", "sys/time.h", "sys/socket.h", "sys/random.h", "netinet/in.h"}
    assert not outside, f"{path.name} includes {sorted(outside)}"


def test_the_rule_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of imports sees each way of writing one."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "core").mkdir()
    source = tmp_path / "core" / "a.pyx"
    source.write_text(
        '"""from dynamo_fast.node import prose"""\n'
        "from libc.time cimport time  # import random\n"
        "cimport dynamo_fast.core.ring as r\n"
        "from dynamo_fast.node.replica cimport (\n    Replica,\n    Other as O,\n)\n"
        "from ..wire import buffer\n"
        "def f():\n    import os, trio.lowlevel\n"
    )
    found = set(imported(source))
    assert found == {
        "libc.time.time", "dynamo_fast.core.ring", "dynamo_fast.node.replica.Replica", "dynamo_fast.node.replica.Other",
        "dynamo_fast.wire.buffer", "os", "trio.lowlevel",
    }
    assert names("libc.time.time", CLOCKS) == {"libc.time"}
    assert names("timers", CLOCKS) == set()
