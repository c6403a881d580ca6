"""The paper's figures, from this code: each module is one of them, and `python -m bench.paper` makes all."""
