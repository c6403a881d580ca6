"""What the documents say is so: links lead somewhere, files and make targets that are named exist, settings are listed as they are.

The five-minute tour of the README is run, command by command, by live/test_tour.py.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from dynamo_fast.node.config import load_config, settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CONFIGURATION = ROOT / "docs" / "configuration.md"

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NAMED_FILE = re.compile(r"`((?:_ext|dynamo_fast|tests|bench|docs|core|wire|storage|net|node|client|load|cli|\.ci)/[\w./-]*)`")


def anchor_of(heading: str) -> str:
    """The anchor that a heading gets when it is shown on the web."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = _CODE_BLOCK.sub("", path.read_text())
    return {anchor_of(heading) for heading in re.findall(r"(?m)^#+ (.*)$", text)}


@document
def test_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(_CODE_BLOCK.sub("", path.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(there), f"{path.name} links to {link}, and there is no such heading"


@document
def test_named_files_exist(path: Path) -> None:
    """A path in backticks is a file or folder, counted from the top or from the package."""
    for name in _NAMED_FILE.findall(path.read_text()):
        assert (ROOT / name).exists() or (ROOT / "dynamo_fast" / name).exists(), f"{path.name} names {name}"


@document
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))
    text = path.read_text()
    named = set(re.findall(r"`make ([a-z-]+)", text))
    for _, block in _CODE_BLOCK.findall(text):
        named |= set(re.findall(r"(?m)^(?:\$ )?make ([a-z-]+)", block))
    assert named <= targets, f"{path.name} names targets that the Makefile has not: {sorted(named - targets)}"


def configuration_rows(section: str) -> list[str]:
    """The rows of a section's table, as the code would have them."""
    return [
        f"| `{setting.key}` | `{json.dumps(setting.default)}` | {setting.allowed} | {setting.description} |"
        for setting in settings()[section].values()
    ]


def test_every_setting_is_documented() -> None:
    text = CONFIGURATION.read_text()
    assert re.findall(r"(?m)^## `\[(\w+)\]`$", text) == list(settings())
    for section, part in zip(settings(), re.split(r"(?m)^## `", text)[1:], strict=True):
        rows = [line for line in part.splitlines() if line.startswith("| `")]
        assert rows == configuration_rows(section)


def test_examples_of_configuration_are_valid(tmp_path: Path) -> None:
    examples = [block for language, block in _CODE_BLOCK.findall(CONFIGURATION.read_text()) if language == "toml"]
    assert examples
    for example in examples:
        assert tomllib.loads(example)
        file = tmp_path / "node.toml"
        file.write_text(example)
        load_config(file)
