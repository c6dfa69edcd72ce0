"""The daemon is killed, its servers are frozen, restarted and cut off, then all is accounted for.

Rule: the verdict comes from Postfix's log, Dovecot's log and the mailboxes, never from the daemon's word. Every fault
ends with its block, whatever happens; every wait has an end.

    plan.py       what goes wrong when, from a seed: printed, so that a failure can be repeated
    faults.py     doing it: servers, wires; and when exactly it was done
    neighbour.py  other people's mails and mail programs, before and meanwhile
    truth.py      what the servers say became of every mail
    verdict.py    the ledger against that
    run.py        all of it, once

`python -m tests.chaos [--for 10m] [--seed N] [--kills N]`, as root. tests/test_chaos.py is the short run.
"""
