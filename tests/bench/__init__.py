"""What mailprobe's numbers are worth and what they cost, measured against a real Postfix and a real Dovecot.

Rule: every claim is a difference to something measured in the same run: the servers' own microseconds, a bare script,
an older tool. Everything started here ends with the bench.

    daemon.py     `mailprobe run` as a process; its CPU time, memory, metrics, ledger
    truth.py      when the servers took and saved each mail
    accuracy.py   (a) measured latency − true latency, undisturbed and held
    peers.py      (a) the same for a plain IDLE client and for check_email_delivery
    cost.py       (b) CPU time per probe, beside bare.py: the same exchange without mailprobe
    startup.py    (c) time to the first submission, memory
    years.py      (d) a ledger of years, asked while it is written
    page.py       (e) what it costs to look: page, live streams, API; the loop's stalls meanwhile, by felt.py
    numbers.py    quantiles and tables

`python -m tests.bench [--quick] [--json FILE]`, as root.
"""
