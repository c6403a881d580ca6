"""Instruction counts of the hot paths against recorded ones: `make gate`, or python -m bench.gate --help."""
