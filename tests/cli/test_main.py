"""The table of commands: help and version without importing any of them."""

import subprocess
import sys

from click.testing import CliRunner

from dynamo_fast import __version__
from dynamo_fast.cli.main import COMMANDS, main


def test_help_names_every_command_and_every_exit_code() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in result.output
        assert line in result.output
    assert "7 refused to start" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["server"])
    assert result.exit_code == 2
    assert "server" in result.output


def test_the_package_is_runnable_and_its_version_costs_no_command() -> None:
    program = "import sys, runpy; sys.argv = ['dynamo-fast', '--version']\ntry: runpy.run_module('dynamo_fast', run_name='__main__')\n" \
              "finally: print([m for m in sys.modules if m.startswith('dynamo_fast.')], 'trio' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"dynamo-fast {__version__}", "['dynamo_fast.cli', 'dynamo_fast.cli.main'] False"]
