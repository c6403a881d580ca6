"""Bytes at rest: an append-only log, a write buffer in memory, LMDB behind them, and one contract over both engines."""
