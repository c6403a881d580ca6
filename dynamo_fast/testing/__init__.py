"""A cluster in one process, and what can be made to go wrong in it; docs/testing.md says how to test with it."""

from dynamo_fast.testing.cluster import Cluster, run

__all__ = ["Cluster", "run"]
