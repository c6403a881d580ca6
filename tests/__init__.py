"""The tests mirror the floors of the package; live/ starts real processes, models/ are oracles in plain Python."""
