"""docs/testing.md: its examples run, and its tables name what there is."""

import re
from pathlib import Path

import dynamo_fast.testing
from dynamo_fast.testing.network import Link

PAGE = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text()


def test_examples_run() -> None:
    examples = re.findall(r"```python run\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "docs/testing.md", "exec"), {})


def test_methods_exist() -> None:
    for name in re.findall(r"\| `(?:await )?cluster\.(\w+)\(", PAGE):
        assert hasattr(dynamo_fast.testing.Cluster, name)


def test_the_weather_is_named_in_full() -> None:
    named = re.search(r"the weather in one direction: (.*?) \|", PAGE)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(Link.__dataclass_fields__)
