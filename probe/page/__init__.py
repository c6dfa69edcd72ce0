"""The status page: one look tells which routes are fine, slow, stuck, or not seen by anybody.

Rules:
- Rendered here, on the server; scripts only keep it live and draw the chart. Nothing comes from anywhere else.
- What is not for the public is left out where the page is told of the world (facts.py), not where it is drawn.
- No request waits for a provider, and no page asks the disk once per route.

    words, html, facts -> strip, frame -> overview, detail -> past, live -> drawing -> face
"""

from __future__ import annotations

from probe.page.face import Face
from probe.page.facts import Demo, Figures, Health, Mailbox, Route, Source
from probe.page.latest import Latest
from probe.page.past import Past

__all__ = ["Demo", "Face", "Figures", "Health", "Latest", "Mailbox", "Past", "Route", "Source"]
