"""docs/client.md: its examples run, its tables agree with the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import trio

from dynamo_fast.client.bucket import Options
from dynamo_fast.client.settings import Settings
from tests.client.loopback import loopback_cluster

PAGE = (Path(__file__).parent.parent.parent / "docs" / "client.md").read_text()


def examples(kind: str) -> list[str]:
    return re.findall(rf"(?ms)^```python {kind}\n(.*?)^```", PAGE)


def test_the_examples_run() -> None:
    assert len(examples("trio")) >= 5
    assert examples("blocking")
    with loopback_cluster() as cluster:
        for example in examples("trio"):
            code = "async def example():\n" + textwrap.indent(example.replace("127.0.0.1:7400", cluster.addresses[0]), "    ")
            names: dict[str, Any] = {}
            exec(compile(code, "docs/client.md", "exec"), names)
            trio.run(names["example"])
        for example in examples("blocking"):
            exec(compile(example.replace("127.0.0.1:7400", cluster.addresses[0]), "docs/client.md", "exec"), {})


def test_every_setting_and_option_is_listed_with_its_default() -> None:
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| `([^`]*)` \|", PAGE))
    defaults = {name: getattr(Settings(), name) for name in Settings.__slots__}
    assert rows == {name: str(value) for name, value in defaults.items() if isinstance(value, int | float)}
    assert set(re.findall(r"(?m)^\| `(\w+)` \| [^`]", PAGE)) >= set(Options.__slots__)
