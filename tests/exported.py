"""What may be asked of mailprobe: every metric that is scraped, with its labels; and what is wrong with a text's names.

Rule: the names come from a page that the program rendered, and never from a list that somebody keeps beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from probe.core.outcome import InFlight, Standing
from probe.core.reply import Reason
from probe.core.settings import Account, Route
from probe.mail.imap import LostReason
from probe.metrics import Metrics

from .make import FakeClock, instant, make_accounts, make_route

Labels = dict[str, set[str]]  # label → the values that are known

# What the scrape adds; what Prometheus itself says of an alert.
SCRAPED = {"job", "instance"}
OPEN = {"route", "account", "sender", "recipient", "sender_account", "recipient_account", "deadline", "le", "version"}

_SELECTOR = re.compile(r"\b(?:\w+:)?(mailprobe_\w+|up)\{([^{}]*)\}")
_MATCHER = re.compile(r"""(\w+)\s*(=~|!~|!=|=)\s*(?:"([^"]*)"|'([^']*)')""")
_NAME = re.compile(r"(?<![\w:/.])(mailprobe_[a-z_]+[a-z])(?![\w:*/.…-]|\.py)")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([\w\s,]*)\)")


async def samples(
    accounts: Mapping[str, Account], routes: Mapping[str, Route], hosts: Sequence[str] = ()
) -> dict[str, list[dict[str, str]]]:
    """Name → label sets, of a prober that has just started, heard from each server once, and knows these clocks."""
    metrics = Metrics("1", lambda: Standing({name: InFlight(1, instant(0.0)) for name in routes}), FakeClock())
    metrics.configure(accounts, routes)
    for account in accounts.values():
        for protocol, server in (("smtp", account.smtp), ("imap", account.imap)):
            if server:
                metrics.certificate(account.name, protocol, 2e9)
    metrics.clocks(dict.fromkeys(hosts, (-0.5, 0.5)))
    page, _ = await metrics.render("", False)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


async def exported() -> dict[str, Labels]:
    """Name → label → values. Reasons are all that the program has a word for: only the likely ones exist from birth."""
    found: dict[str, Labels] = {}
    for name, sets in (await samples(make_accounts(), {"r": make_route()}, ["mx.example.org"])).items():
        values: Labels = {}
        for one in sets:
            for label, value in one.items():
                values.setdefault(label, set()).add(value)
        if "reason" in values:
            values["reason"] |= {*get_args(Reason), *get_args(LostReason)}
        found[name] = values
    return found


def complaints(text: str, metrics: Mapping[str, Labels], more: Iterable[str] = ()) -> list[str]:
    """Metrics, labels and values that a text names and nobody exports. `more`: names of recording rules."""
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics}
    known = metrics.keys() | families
    labels = {label for values in metrics.values() for label in values} | SCRAPED
    found = [f"no metric {name}" for name in _NAME.findall(text) if name not in known]
    found += [
        f"no rule {name}" for name in re.findall(r"\b\w*:mailprobe_[\w:]+|\bmailprobe:[\w:]+", text) if name not in more
    ]
    for grouping in _GROUPING.findall(text):
        found += [f"no label {label}" for label in re.findall(r"\w+", grouping) if label not in labels]
    found += [f"no label {label}" for label in re.findall(r"\$labels\.(\w+)", text) if label not in labels]
    for name, matchers in _SELECTOR.findall(text):
        if name == "up" or name not in known:
            continue
        own = next(metrics[full] for full in (name, f"{name}_bucket", f"{name}_count") if full in metrics)
        for label, operator, *quoted in _MATCHER.findall(matchers):
            value = "".join(quoted)
            if label not in own.keys() | SCRAPED:
                found.append(f"{name} has no label {label}")
            elif label not in OPEN | SCRAPED and "%" not in value:
                wanted = value.split("|") if "~" in operator else [value]
                found += [f"{name} has no {label}={one}" for one in wanted if one not in own[label]]
    return found
