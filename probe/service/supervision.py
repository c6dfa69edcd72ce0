"""What the service manager is told of a daemon at work, and the watchdog, which is fed by progress.

Rules:
- Ready means: the ledger is open and every mailbox was tried once. Until then the start's time limit is put off, as
  long as something moves.
- The watchdog is fed while every part gets on with its work, and not because a timer fires: a deadlock ends in a
  restart. A dead provider or a full disk is no deadlock: trying again is progress, and a restart would mend nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from probe import clock
from probe.core.outcome import RouteView, Sink
from probe.core.progress import Progress, Work
from probe.log import line
from probe.prober import Prober
from probe.service.notify import Notifier
from probe.service.status import StatusLine

log = logging.getLogger("mailprobe.supervision")

_REFRESH = 10.0  # seconds between status lines when nothing begins or ends
_LOOK = 0.5  # seconds between looks whether something did


class Supervision(Sink):
    """Also a sink: hears of reloads, and of whatever the status line speaks of (`status`, to be told as well)."""

    def __init__(self, notifier: Notifier) -> None:
        self.status = StatusLine()
        self._notifier = notifier
        self._progress = Progress(longest=2 * _REFRESH)
        self._stalled: list[str] = []
        self._ready = False

    async def run(
        self, prober: Prober, works: Callable[[], Iterable[Work]], views: Callable[[], Sequence[RouteView]]
    ) -> None:
        """Until cancelled."""
        every = min(_REFRESH, self._notifier.watchdog / 3) if self._notifier.watchdog else _REFRESH
        while not prober.has_tried_everything():
            tried = sum(watcher.attempted.is_set() for watcher in prober.watchers.values())
            self._notifier.tell(STATUS=f"starting: {tried} of {len(prober.watchers)} mailboxes tried")
            if self._moves(works()):
                self._notifier.tell(EXTEND_TIMEOUT_USEC=int(3 * _REFRESH * 1e6))
            await asyncio.sleep(_LOOK)
        self._ready = True
        self._notifier.tell(READY=1)
        log.info(line("ready"))
        while True:
            if self._moves(works()):
                self._notifier.tell(WATCHDOG=1, STATUS=self.status.text(prober.settings, views()))
            await self._pause(every)

    async def _pause(self, seconds: float) -> None:
        heard = self.status.news
        for _ in range(max(1, round(seconds / _LOOK))):
            await asyncio.sleep(min(seconds, _LOOK))
            if self.status.news != heard:
                return

    def _moves(self, works: Iterable[Work]) -> bool:
        stalled = self._progress.stalled(works, clock.reading().awake)
        if stalled and not self._stalled:
            log.critical(line("bug", stalled=", ".join(stalled)))
        self._stalled = stalled
        return not stalled

    def stopping(self) -> None:
        """The daemon ends, as it was told."""
        self._notifier.tell(STOPPING=1, STATUS="stopping")

    # -- what it hears -------------------------------------------------------------------------------------------

    def reloading(self) -> None:
        """The configuration is being read again."""
        # Its clock is CLOCK_MONOTONIC, which tells a new reload from an old one.
        if self._ready:
            self._notifier.tell(RELOADING=1, MONOTONIC_USEC=int(clock.reading().awake * 1e6))

    def reloaded(self, error: str | None) -> None:
        """The new configuration is in use, or refused; ready for the next."""
        if self._ready:
            self._notifier.tell(READY=1)
