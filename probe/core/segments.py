"""Whose host is it: the provider of the sender, of the recipient, or somebody between.

Rule: only names tell. A host whose name says nothing (an address, localhost) belongs to whoever had the mail before it;
where no name tells where one provider ends and the next begins, that is what is said.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from probe.core.settings import Account

Owner = Literal["sender", "between", "recipient", "provider", "unresolved"]

_SECOND_LEVEL = re.compile(r"(?:ac|asso|co|com|edu|gob|gouv|gov|gv|id|ltd|me|mil|ne|net|nom|or|org|plc|sch)\.[a-z]{2}")
_PRIVATE = re.compile(r".*\.(?:arpa|corp|home|internal|intra|lan|local|localdomain|localhost|private)")


def organisation(host: str) -> str:
    """The domain under which somebody names their hosts: "provider.example" for "mx3.eu.provider.example"; "" where the
    name belongs to nobody in particular (addresses, localhost, one word).

    Without the public suffix list, which changes weekly: two labels, three below "co.uk" and its like. Wrong where
    strangers share another kind of suffix; they are then taken for one.
    """
    name = host.lower().rstrip(".")
    labels = name.split(".")
    if len(labels) < 2 or ":" in name or not labels[-1][:1].isalpha() or _PRIVATE.fullmatch(name):
        return ""
    size = 3 if _SECOND_LEVEL.fullmatch(".".join(labels[-2:])) else 2
    return ".".join(labels[-size:])


def domains(account: Account) -> frozenset[str]:
    """The domains that an account's provider names its hosts under, as far as the configuration tells."""
    hosts = [server.host for server in (account.smtp, account.imap) if server]
    found = {account.address.rpartition("@")[2].lower(), *map(organisation, hosts), *account.domains}
    return frozenset(found - {""})


def owners(hosts: Sequence[str], mine: Collection[str], theirs: Collection[str]) -> list[Owner]:
    """Who owns each of these hosts, which stand in the order of the mail's way. `mine`, `theirs`: the domains of the
    sender's and of the recipient's provider.

    The first host took our submission, so it is the sender's provider's whatever its name; the last one that has a name
    is the recipient's, unless the name is the sender's. If none can be the recipient's, nobody knows where the
    sender's provider ended: all is `unresolved`. If all are both's, all is the one `provider`'s.
    """
    final = next((named for host in reversed(hosts[1:]) if (named := organisation(host))), "")
    senders = {*mine, *map(organisation, hosts[:1])} - {""}
    recipients = {*theirs} if not final or _below(final, senders) else {*theirs, final}
    claims: list[tuple[bool, bool]] = []  # (may be the sender's, may be the recipient's)
    for host in hosts:
        claim = _below(host, senders), _below(host, recipients)
        nameless = not any(claim) and not organisation(host)
        claims.append((True, claim[1]) if not claims else claims[-1] if nameless else claim)
    if claims and all(map(all, claims)):
        return ["provider"] * len(hosts)
    start = len(hosts) - _run(recipient for _, recipient in reversed(claims))
    if start == len(hosts):
        return ["unresolved"] * len(hosts)
    end = min(start, _run(sender for sender, _ in claims))
    runs: tuple[tuple[Owner, int], ...] = ("sender", end), ("between", start - end), ("recipient", len(hosts) - start)
    return [owner for owner, number in runs for _ in range(number)]


def _below(host: str, domains: Collection[str]) -> bool:
    name = host.lower().rstrip(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def _run(claims: Iterable[bool]) -> int:
    """How many of the first are true."""
    return sum(1 for _ in itertools.takewhile(bool, claims))
