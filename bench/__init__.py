"""Benchmarks: pieces of the core (bench_*.py, under pytest-benchmark), a cluster against other servers (compare), and
instruction counts (gate)."""
