"""Data and decisions, no I/O: ring, clocks, siblings, trees, quorums. Knows no trio, os, time or random."""
