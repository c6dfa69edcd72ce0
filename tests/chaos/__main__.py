"""`python -m tests.chaos`, `make chaos`; see the package."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from probe.config import parse_duration

from ..bed.mailbed import what_is_missing
from .plan import draw
from .run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="kill, freeze, cut; then count")
    parser.add_argument("--for", dest="seconds", type=parse_duration, default=600.0, help="of chaos; default: 10m")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a new one; it is printed")
    parser.add_argument("--kills", type=int, help="default: one a second")
    options = parser.parse_args()
    if missing := what_is_missing():
        sys.exit(missing)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end in order, as by Ctrl-C
    plan = draw(options.seed, options.seconds, options.kills or max(1, round(options.seconds)))
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="chaos-"))
    root.chmod(0o755)
    verdict = run(root, plan, partial(print, flush=True))
    if verdict.wrong:
        sys.exit(f"{len(verdict.wrong)} cases that must not be; repeat with --seed {options.seed}; all is in {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
