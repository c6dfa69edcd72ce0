"""Is every part getting on with its work? Decided by counting steps, not by anybody's word that it is alive.

Rule: only time in which this was looked at counts: a process that was stopped, or a machine that slept, is not a part
that stands still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Work(NamedTuple):
    """What one part is at. `steps` grows whenever it gets on; `resting`: it has nothing to do, or pauses."""

    name: str
    steps: int
    resting: bool
    patience: float  # seconds that one step may take at most


@dataclass(slots=True)
class Progress:
    """Who stands still, by looks at intervals of at most `longest` seconds; a longer one counts as that long."""

    longest: float
    _looked: float | None = None
    _still: dict[str, tuple[int, float]] = field(default_factory=dict)  # name → steps, seconds without another

    def stalled(self, works: Iterable[Work], now: float) -> list[str]:
        """The names of those whose last step takes longer than it may. `now` in seconds by any clock that goes on."""
        spent = 0.0 if self._looked is None else min(max(0.0, now - self._looked), self.longest)
        self._looked = now
        before, self._still = self._still, {}
        found = []
        for work in works:
            steps, still = before.get(work.name, (work.steps, 0.0))
            still = 0.0 if work.resting or steps != work.steps else still + spent
            self._still[work.name] = work.steps, still
            if still > work.patience:
                found.append(work.name)
        return found
