"""What state a simulated machine is in."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """STOPPED: no process. FROZEN: one that stands still. DARK: no power either. DESTROYED: that, for good, and nothing on its disk."""

    STOPPED = "stopped"
    RUNNING = "running"
    FROZEN = "frozen"
    DARK = "dark"
    DESTROYED = "destroyed"
