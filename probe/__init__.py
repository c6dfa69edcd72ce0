"""mailprobe: sends timestamped test mails through mail providers and measures how long each one held them.

A mail travels through this package in the order of these files:

    config/            what to send, from where to where
    core/schedule.py   when                      core/message.py, core/token.py   what
    mail/smtp.py       the way out               mail/watcher.py, mail/imap.py    the way back in
    core/match.py      which probe was that?     core/dsn.py                      did it come back?
    core/state.py      what became of it         recorder.py, ledger/             the record, in memory and on disk
    incidents.py       is the route in trouble?
    metrics/, page/, api/, report/, terminal/    how people and programs learn of it

`daemon.py` composes them, `service/` tells systemd, `demo/` plays what can happen against `provider/`.
Imports go one way: core <- shells <- daemon <- cli (tests/test_house.py holds the arrows).
"""

from importlib.metadata import version

__version__ = version("mailprobe")
PROGRAM = f"mailprobe {__version__}"
