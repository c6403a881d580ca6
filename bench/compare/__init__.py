"""The same load against redis and against a cluster of ours, as ratios: `make compare`, or python -m bench.compare --help."""
