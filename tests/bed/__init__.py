"""A real mail provider on 127.0.0.1, for tests: Postfix -> LMTP -> Dovecot, their certificates, Prometheus, faults.

Rule: everything lives in one directory and on ports reserved for it, is started in the foreground by us (no init
system), and ends with the process that started it. Nothing is read from or written to the machine's own /etc/postfix,
/etc/dovecot or mail spool. Standard library only.

    service.py      one daemon in one directory; free ports; a log that is read as it grows
    pki.py          a throw-away CA; good, expired and misnamed certificates
    dovecot.py      IMAP and LMTP; says to the microsecond when it saved a mail
    postfix.py      submission, queue, LMTP out; says to the microsecond when a mail came in; holds it on request
    mailbed.py      these composed: MailBed
    relays.py       a chain of three relays with clocks of their own, each of which keeps mail on request: Relays
    maillog.py      Postfix's log, each line with its true instant
    prometheus.py   scrapes, rules, queries
    netfault.py     frozen servers; a TCP proxy that delays, stalls, refuses, cuts

`python -m tests.bed DIR` starts one to play with.
"""
