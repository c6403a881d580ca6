"""The first tier of the simulator: data planes alone, on one heap of events; docs/testing.md says what it sees and what it cannot."""
