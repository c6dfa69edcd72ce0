"""`python -m tests.bed DIR`: a mail provider to play with, until Ctrl-C.

Rule: the directory is the caller's and stays; the servers are ours and go.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from .mailbed import MailBed, what_is_missing


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.bed DIR")
    if missing := what_is_missing():
        sys.exit(missing)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end in order, as by Ctrl-C
    with MailBed(Path(sys.argv[1])) as bed:
        toml = bed.root / "mailprobe.toml"
        toml.write_text(bed.config())
        print(f"# ready in {time.monotonic() - began:.2f} s; any user of bed.test, password {bed.password!r}")
        print(f"# ports {bed.ports}\n# CA    {bed.pki.ca}\n# logs  {bed.dovecot.root}/log {bed.postfix.root}/log")
        print(f"# for postsuper, postqueue, postconf: -c {bed.postfix.root}/conf\n# written to {toml}:\n")
        print(toml.read_text(), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("# stopping")


main()
