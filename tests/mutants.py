"""Would the tests of the rules notice a mistake? Every number, duration, comparison and name in a rule is made wrong,
one at a time, and promtool must then contradict test_rules.py:  python -m tests.mutants [NAME]

Rule: a mutant that no series can tell from the rule is in EQUIVALENT, with the reason.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from .test_rules import CASES, FILES, shares

_AT_ONCE = 12  # mutants for one promtool
# In this order, so that a window's neighbours are the likely mistakes.
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def _other_numbers(number: str) -> list[str]:
    value = float(number)
    return [f"{value * 2:g}", f"{value / 2:g}"] if value else ["1", "-1"]


def _other_windows(window: str) -> list[str]:
    if window not in _WINDOWS:
        return [f"{int(window[:-1]) * factor}{window[-1]}" for factor in (2, 10)]
    at = _WINDOWS.index(window)
    return list(_WINDOWS[max(0, at - 1) : at] + _WINDOWS[at + 1 : at + 2])


def _other_times(time: str) -> list[str]:
    """Half and twice."""
    seconds = int(time[:-1]) * {"s": 1, "m": 60, "h": 3600}[time[-1]]
    return [f"{seconds // 2}s", f"{seconds * 2}s"]


def _instead(*pairs: str) -> Callable[[str], list[str]]:
    table = dict(pair.split(" → ") for pair in pairs)
    return lambda found: table[found].split(", ")


# What to look for → what may stand there by mistake.
_MISTAKES: list[tuple[str, Callable[[str], list[str]]]] = [
    (r"(?<=for: )\w+", _other_times),
    (r"(?<=\[)\w+(?=\])", _other_windows),
    (r"(?<=:ratio_rate)\w+", _other_windows),
    (r"(?<![\w.$\[])\d+(?:\.\d+)?(?![\w.\]])", _other_numbers),
    (r"(?<= )(?:>|>=|<|==)(?= )", _instead("> → >=, <", ">= → >, <", "< → <=, >", "== → !=, >")),
    (r"\b(?:and|or)\b", _instead("and → or, unless", "or → and, unless")),
    (r"(?<= )[-+/](?= )", _instead("- → +", "+ → -", "/ → *")),
    (
        r"\b(?:max|min|sum|avg|count|min_over_time|rate|increase)\b(?= ?[(b])",
        _instead(
            "max → min", "min → max", "sum → max, min", "avg → max, min", "count → sum, group",
            "min_over_time → max_over_time", "rate → delta", "increase → delta",
        ),
    ),
    (
        r'(?<=")(?:true|false|unknown|true\|false|junk|lost|bounced|accepted|mailprobe|0\.1)(?=")',
        _instead(
            "true → false", "false → true", "unknown → true", "true|false → .+, true", "junk → inbox",
            "lost → bounced", "bounced → lost", "accepted → failed", "mailprobe → other", "0.1 → +Inf",
        ),
    ),
    (r'(?<=[a-z])(?:!=|=~|=)(?=")', _instead("!= → =", "=~ → !~", "= → !=")),
]  # fmt: skip


class Rule(NamedTuple):
    """A rule as it stands in its file."""

    name: str
    text: str


class Mutant(NamedTuple):
    """One mistake: in the rule of this name, the n-th of its places that look like `was` reads `now`."""

    rule: str
    was: str
    number: int
    now: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.was} ({self.number}) → {self.now}"


# Mutants, by pattern → why no series tells them from the rule
EQUIVALENT = {
    r"route_deadline:.*: sum \(1\) → (max|min)": "one series for each deadline and met; the sum drops labels",
    r".*:p90_30m: sum \(1\) → (max|min)": "one series for each route and le",
    r".*(DeadlinesMissed|UnknownHigh|MailInJunk|SubmissionFailing|ClockJumped): sum \(1\) → (max|min)": "the same",
    r"Mailprobe(Mail|Provider.*)Stuck: 15s \(1\) → 7s": "evaluations are 15 s apart",
    r"MailprobeLoopStalled: sum \(\d\) → (max|min)": "one series for each prober",
    r"MailprobeProvider.*: count \(2\) → (sum|group)": "how many groups there are is counted, and not what is in them",
    r".*(DelayHigh|DeadlinesMissed|LoopStalled|MailInJunk|SubmissionFailing|UnknownHigh): > \(\d\) → >=": (
        "of extrapolated rates, none is at its threshold but by rounding"
    ),
    r"MailprobeSubmissionFailing: 0 \(1\) → 1": "an increase by one is extrapolated to more",
    r".*since_accepted:seconds: >= \(1\) → >": "both branches have the same value then",
}


def rules() -> list[Rule]:
    """All that are shipped, in the order of their evaluation."""
    text = "".join(re.sub(r"^ *#.*\n", "", file.read_text(), flags=re.M) for file in FILES)
    return [
        Rule(found[1], found[0])
        for found in re.finditer(r"^      - (?:record|alert): (\S+)\n(?:        .*\n|\n)+", text, re.M)
    ]


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Every mistake in what this rule asks, and in how long it waits."""
    end = rule.text.find("        labels:\n")
    asked, rest = (rule.text[:end], rule.text[end:]) if end >= 0 else (rule.text, "")
    begin = asked.index("expr:")
    counted: dict[str, itertools.count[int]] = {}
    for pattern, others in _MISTAKES:
        for found in re.finditer(pattern, asked):
            if found.start() > begin:
                number = next(counted.setdefault(found[0], itertools.count(1)))
                for now in others(found[0]):
                    text = asked[: found.start()] + now + asked[found.end() :] + rest
                    yield Mutant(rule.name, found[0], number, now, text)


def _related(name: str, in_order: Iterable[Rule], names: Callable[[Rule, Rule], bool]) -> set[str]:
    found = [rule for rule in in_order if rule.name == name]
    for rule in in_order:
        if any(names(rule, one) for one in found):
            found.append(rule)
    return {rule.name for rule in found}


def _names(a: Rule, b: Rule) -> bool:
    return re.search(rf"(?<![\w:]){re.escape(b.name)}(?![\w:])", a.text) is not None


def concerned(name: str, everything: Sequence[Rule]) -> set[str]:
    """The alerts that rest on this rule. (A rule comes after those that it rests on.)"""
    return {one for one in _related(name, everything, _names) if one.startswith("Mailprobe")}


def needed(name: str, everything: Sequence[Rule]) -> set[str]:
    """The rules that this one rests on, and itself."""
    return _related(name, everything[::-1], lambda a, b: _names(b, a))


def _tests(mutant: Mutant, everything: Sequence[Rule]) -> Iterator[tuple[set[str], str, list[dict[str, Any]]]]:
    """The rules that are evaluated, how often, and promtool's tests of them."""
    if "deadline_" in mutant.rule:
        asked = shares()
        asked["promql_expr_test"] = [one for one in asked["promql_expr_test"] if mutant.rule in one["expr"]]
        yield {mutant.rule}, "80h", [asked]
        return
    cases = [case for case in CASES if case.alert in concerned(mutant.rule, everything)]
    for case in [case for case in cases if case.recorded] or cases:
        tests = [case.test(case.fires, [case.expected()]), *(case.test(quiet, []) for quiet in case.quiet)]
        yield {case.alert} if case.recorded else needed(case.alert, everything), case.step, tests


def survivors(some: list[Mutant]) -> list[Mutant]:
    """Those that no test contradicts."""
    everything = rules()
    with tempfile.TemporaryDirectory(prefix="mailprobe-mutants-") as name:
        tests: dict[Path, Mutant] = {}
        for mutant in some:
            for wanted, interval, said in _tests(mutant, everything):
                file = Path(name, f"{len(tests)}.yml")
                texts = (
                    mutant.text if rule.name == mutant.rule else rule.text for rule in everything if rule.name in wanted
                )
                file.write_text("groups:\n  - name: all\n    rules:\n" + "".join(texts))
                test = file.with_suffix(".json")
                test.write_text(json.dumps({"rule_files": [file.name], "evaluation_interval": interval, "tests": said}))
                tests[test] = mutant
        ran = subprocess.run(["promtool", "test", "rules", *tests], capture_output=True, text=True, check=False)
        verdicts = re.split(r"^Unit Testing:  ", ran.stdout + ran.stderr, flags=re.M)[1:]
        contradicted = {mutant for mutant, said in zip(tests.values(), verdicts, strict=True) if "SUCCESS" not in said}
    return [mutant for mutant in some if mutant not in contradicted]


def all_survivors(wanted: Callable[[Mutant], object]) -> tuple[int, list[Mutant]]:
    """How many were tried, and which survived; two promtools at a time."""
    tried = [mutant for rule in rules() for mutant in mutants(rule) if wanted(mutant)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(survivors, (tried[at : at + _AT_ONCE] for at in range(0, len(tried), _AT_ONCE))))
    return len(tried), list(itertools.chain(*found))


def main() -> int:
    """Exit status 1 if a mutant survives that is not known to be equivalent, or one does not that is."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    tried, alive = all_survivors(lambda mutant: name in mutant.rule)
    unknown = sorted(str(it) for it in alive if not any(re.fullmatch(known, str(it)) for known in EQUIVALENT))
    print(*unknown, f"{tried} mutants, {len(alive)} survive, {len(unknown)} of them for no known reason", sep="\n")
    return bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
