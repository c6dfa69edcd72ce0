"""`make fuzz`: each target of targets.py for a minute by atheris, which keeps the inputs that reach new code.

Rule: one process per target, for libFuzzer ends its own. What it learnt stays in .cache/fuzz for the next run. A
finding is printed with the command that repeats it; make it a seed of its target when it is mended.
"""

from __future__ import annotations

import argparse
import base64
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_CORPUS = _ROOT / ".cache" / "fuzz"
_SLOW = 10  # seconds for one input
_MEMORY = 1024  # MiB
_LONGEST = 4096  # octets of an input


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--for", dest="span", default="60s", metavar="TIME", help="per target (default: 60s)")
    parser.add_argument("--repeat", metavar="BASE64", help="only this input")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.child:
        _fuzz(options.targets[0], options.child, options.span)  # does not return

    from probe.config import parse_duration

    from .targets import TARGETS

    names = options.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.repeat is not None:
        for name in names:
            TARGETS[name].check(base64.b64decode(options.repeat))
        return 0
    seconds = max(1, round(parse_duration(options.span)))
    return int(any([_watch(name, seconds) for name in names]))  # noqa: C419 - all of them


def _watch(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether it found something."""
    from .targets import TARGETS

    target = TARGETS[name]
    corpus = _CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        (here / "seeds").mkdir()
        for number, seed in enumerate(target.seeds):
            (here / "seeds" / str(number)).write_bytes(seed)
        (here / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        command = [sys.executable, "-m", "tests.fuzz", name, "--child", directory, "--for", f"{seconds}s"]
        print(f"{name:<10}", end=" ", flush=True)
        with (here / "log").open("wb") as log:
            code = subprocess.run(command, cwd=_ROOT, stdout=log, stderr=log, check=False).returncode
        said = (here / "log").read_text("utf-8", "replace")
        found = sorted(here.glob("*-*"))
        print(_numbers(said), flush=True)
        for artifact in found:
            letters = base64.b64encode(artifact.read_bytes()).decode()
            print(f"\n{_complaint(said)}\n\nRepeat it:\n.venv/bin/python -m tests.fuzz {name} --repeat '{letters}'\n")
        if code and not found:
            print(said[-4000:])
        return bool(code or found)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _numbers(said: str) -> str:
    """Executions, and by how much the code that they reach has grown."""
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    reached = [(int(cov), int(ft)) for cov, ft in re.findall(r"cov: (\d+) ft: (\d+)", said)]
    kept = re.search(r"new_units_added: +(\d+)", said)
    first, last = (reached[0], reached[-1]) if reached else ((0, 0), (0, 0))
    return (
        f"{int(runs[1]) if runs else 0:>9,} inputs   branches {first[0]} → {last[0]}   "
        f"ways through them {first[1]} → {last[1]}   kept {kept[1] if kept else 0}"
    )


def _complaint(said: str) -> str:
    """The traceback, or what libFuzzer says of an input that took too long or too much."""
    found = re.search(r" === Uncaught.*?(?=\n==\d+==)|ERROR: libFuzzer.*?(?=\nMS: |\Z)", said, re.S)
    return found[0][:4000].strip() if found else said[-4000:]


def _fuzz(name: str, directory: Path, span: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["probe", "email", "tests.fuzz"]):
        from .targets import TARGETS
    atheris.Setup(
        [
            *("tests.fuzz", str(_CORPUS / name), str(directory / "seeds"), f"-dict={directory / 'words'}"),
            *(f"-artifact_prefix={directory}/", f"-max_total_time={span.removesuffix('s')}", "-print_final_stats=1"),
            *(f"-timeout={_SLOW}", f"-rss_limit_mb={_MEMORY}", f"-max_len={_LONGEST}"),
        ],
        TARGETS[name].check,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
