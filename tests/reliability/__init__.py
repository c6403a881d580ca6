"""What the store promises, measured against real processes: one command per figure, and one for all of them (docs/reliability.md)."""
