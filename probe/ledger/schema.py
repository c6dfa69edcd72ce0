"""The tables, by version, and what a summary counts as.

Rules:
- A ledger of an older version gets the tables it lacks at once, however big it is; chaining.catch_up() fills them.
- Cells are sums over summaries, by COUNTS_AS and by nothing else. They outlive what they count, days for good.
"""

from __future__ import annotations

from probe.core.state import OPEN, State

SCHEMA = (  # one script for each version; statements end with a semicolon and a line break
    """
CREATE TABLE probes (
  id TEXT PRIMARY KEY, route TEXT NOT NULL, state TEXT NOT NULL, started REAL NOT NULL  -- Unix time
) WITHOUT ROWID;
CREATE INDEX probes_by_state ON probes (state) WHERE state IN ('sending', 'early', 'accepted', 'unconfirmed');
CREATE INDEX probes_by_start ON probes (started);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, probe TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, record TEXT NOT NULL
);
CREATE INDEX events_by_probe ON events (probe);
CREATE TABLE cursors (
  account TEXT, folder TEXT, uidvalidity INTEGER, uid INTEGER, looked TEXT, PRIMARY KEY (account, folder)
) WITHOUT ROWID;
""",
    """
CREATE TABLE headers (
  seq INTEGER PRIMARY KEY, probe TEXT NOT NULL, at REAL NOT NULL, keep INTEGER NOT NULL, raw BLOB NOT NULL  -- zlib
);
CREATE INDEX headers_by_probe ON headers (probe);
CREATE INDEX headers_by_age ON headers (at) WHERE keep = 0;
""",
    """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO about VALUES ('ledger', lower(hex(randomblob(16))));
INSERT INTO about SELECT 'caught_up', '[0,""]' WHERE EXISTS (SELECT 1 FROM probes);
INSERT INTO about SELECT 'replayed', json_array(0, 0, seq, at) FROM events ORDER BY seq DESC LIMIT 1;
CREATE TABLE routes (  -- number, link: the end of its chain
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, number INTEGER NOT NULL, link BLOB NOT NULL
);
CREATE TABLE summaries (  -- core/history.py; pending: not all that happened is in the chain
  route INTEGER NOT NULL, started REAL NOT NULL, probe TEXT NOT NULL, state TEXT NOT NULL, accepted REAL, seen REAL,
  latency REAL, doubtful INTEGER NOT NULL, missed REAL, unknown REAL, placement TEXT, holder TEXT, held REAL,
  status TEXT, pending INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (route, started, probe)
) WITHOUT ROWID;
CREATE INDEX summaries_pending ON summaries (started) WHERE pending = 1;
CREATE INDEX summaries_of_note ON summaries (route, started, probe)
  WHERE missed IS NOT NULL OR status IS NOT NULL OR state IN ('lost', 'found');
CREATE TABLE cells (
  size INTEGER, route INTEGER, begin INTEGER, sent INTEGER, open INTEGER, late INTEGER, unknown INTEGER, lost INTEGER,
  bounced INTEGER, refused INTEGER, measured INTEGER, worst REAL, PRIMARY KEY (size, route, begin)
) WITHOUT ROWID;
CREATE TABLE chain (
  route INTEGER, number INTEGER, probe TEXT NOT NULL, at REAL NOT NULL, digest BLOB NOT NULL, link BLOB NOT NULL,
  PRIMARY KEY (route, number)
) WITHOUT ROWID;
CREATE INDEX chain_by_probe ON chain (probe);
CREATE TABLE heads (
  route INTEGER, day INTEGER, number INTEGER NOT NULL, link BLOB NOT NULL, PRIMARY KEY (route, day)
) WITHOUT ROWID;
CREATE TABLE incidents (
  id TEXT PRIMARY KEY, route TEXT NOT NULL, kind TEXT NOT NULL, begin REAL NOT NULL, "end" REAL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX incidents_by_begin ON incidents (begin);
CREATE INDEX incidents_open ON incidents (route) WHERE "end" IS NULL;
CREATE TABLE memory (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tallies (  -- of probes; kept up by triggers, since counting five million takes 14 s
  route TEXT, state TEXT, number INTEGER NOT NULL, PRIMARY KEY (route, state)
) WITHOUT ROWID;
INSERT INTO tallies SELECT route, state, count(*) FROM probes GROUP BY route, state;
CREATE TRIGGER probes_come AFTER INSERT ON probes BEGIN
  INSERT INTO tallies VALUES (NEW.route, NEW.state, 1) ON CONFLICT DO UPDATE SET number = number + 1; END;
CREATE TRIGGER probes_change AFTER UPDATE OF state ON probes WHEN OLD.state <> NEW.state BEGIN
  UPDATE tallies SET number = number - 1 WHERE route = OLD.route AND state = OLD.state; INSERT INTO tallies
  VALUES (NEW.route, NEW.state, 1) ON CONFLICT DO UPDATE SET number = number + 1; END;
CREATE TRIGGER probes_go AFTER DELETE ON probes BEGIN
  UPDATE tallies SET number = number - 1 WHERE route = OLD.route AND state = OLD.state; END;
""",
)
VERSION = len(SCHEMA)
# In the order in which its index has them, which is not used for any other.
IS_OPEN = "state IN ({})".format(", ".join(f"'{state.value}'" for state in State if state in OPEN))
OF_NOTE = "(missed IS NOT NULL OR status IS NOT NULL OR state IN ('lost', 'found'))"  # what its index is made for
_SUMMARY = """SELECT 1 FROM summaries JOIN routes ON routes.id = summaries.route WHERE
  (name, summaries.started, summaries.probe) = (probes.route, probes.started, probes.id)"""
SUMMARISED = f"EXISTS ({_SUMMARY})"
CHAINED = f"EXISTS ({_SUMMARY} AND pending = 0)"
COUNTS = "latency IS NOT NULL AND doubtful = 0"
COUNTS_AS = {  # what one summary adds to its cells
    "sent": "1",
    "open": IS_OPEN,
    "late": "missed IS NOT NULL",
    "unknown": "unknown IS NOT NULL",
    "lost": "state = 'lost'",
    "bounced": "state = 'bounced'",
    "refused": "state IN ('rejected', 'deferred', 'failed')",
    "measured": COUNTS,
}
WORST = f"CASE WHEN {COUNTS} THEN latency END"
COUNTED = ", ".join([*(f"sum({expression})" for expression in COUNTS_AS.values()), f"max({WORST})"])
