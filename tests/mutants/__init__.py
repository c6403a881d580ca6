"""Planted bugs: patches that break a promise, to see that somebody notices; docs/testing.md."""
