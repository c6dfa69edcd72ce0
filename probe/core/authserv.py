"""Which Authentication-Results are the receiver's own: learnt from where they stand in our own probes.

Rule: a field counts by its place; its name is only a second witness, for whoever writes the mail can write any name.

Servers put their fields on top. So what stands above the lowest Received of the receiver's own was written by the
receiver, whatever it says; what stands below the next one, the sender's, can be anybody's, and is never looked at.
Between the two both may have written: the receiver above, the sender below. There a field must bear the name of the
receiver's hosts, must have been there in every mail, and no more of them count than have always been there: for a
receiver that always writes (and Gmail, iCloud, rspamd and most milters write there) the forged one is one too many.

Receivers must remove what bears their name (RFC 8601 §5), but not all do; and not every foreign field is a forgery:
Yandex writes one into what its customers submit, and Microsoft does so in the name of the recipient's domain.

What remains: a sending provider that forges the recipient's name in every mail to a receiver that never writes any, and
a forged field in a mail of which a receiver that writes below its own Received says, for once, nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from probe.core import segments
from probe.core.resinfo import Said, authentication_results, received_spf

Fields = Sequence[tuple[str, str]]  # (name, unfolded value), from the top

READERS: Final[dict[str, Callable[[str], Said]]] = {
    "authentication-results": authentication_results,
    "received-spf": received_spf,  # the second choice
}

_NEEDED = 3  # mails in a row that agree
_REMEMBERED = 16  # mails of a mailbox
_MAILBOXES = 10_000
_MOST_FIELDS = 1000
_MOST_SAID = 20

_LONGEST_RECEIVED = 2048
_COMMENT = re.compile(r"\([^()]*+\)")  # may hold a "by", too
_BY = re.compile(r"(?:\A|\s)by\s+([^\s;()]+)", re.I)
_FROM = re.compile(r"\s*from\s+([^\s()]+)", re.I)
_IP = re.compile(r"(?<![\w.:-])(?:IPv6:)?([\da-f]*+[.:][\da-f.:]++)(?![\w-])", re.I)
# One provider's names for its hosts.
_SAME = {"me.com": "icloud.com", "mac.com": "icloud.com", "office365.com": "outlook.com", "aol.com": "yahoo.com"}


class Own(NamedTuple):
    """How a receiver signs its results: in which field, under what names, and where.

    `names`: an organisation's domain (hosts change with every mail), or what else is written ("opendmarc"); "" for
    Microsoft, who name nobody. `depth`: so many Received stand above, at most. `number`: so many of them count, if
    they stand side by side. `above`: the receiver's own Received stands below them.
    """

    field: str
    names: tuple[str, ...]
    depth: int
    number: int
    above: bool


class Placed(NamedTuple):
    """A field and how many Received stand above it."""

    name: str
    value: str
    depth: int


def organisation(host: str) -> str:
    """Whose host it is, under one of their names; "" for nobody's."""
    own = segments.organisation(host.strip("[]<>"))
    return _SAME.get(own, own)


def place(fields: Fields) -> list[Placed]:
    """Every field with its depth; of a header that has no end, the beginning."""
    depth, placed = 0, []
    for written, value in fields[:_MOST_FIELDS]:
        name = written.lower()
        placed.append(Placed(name, value, depth))
        depth += name == "received"
    return placed


def said(placed: Sequence[Placed], own: Own) -> list[tuple[Placed, Said]]:
    """What the receiver says in this mail, with the field: the topmost that bear its names, side by side, as many as
    there always are."""
    found = [(each, what) for each, what, name in _named(placed, own.field) if name in own.names]
    top = found[0][0].depth if found else 0
    return [(each, what) for each, what in found[: own.number] if each.depth == top <= own.depth]


def sight(placed: Sequence[Placed], hosts: Iterable[str] = ()) -> Own | None:
    """How the receiver has signed this mail, by its own Received and the names of its hosts; None: it has not."""
    known = {organisation(host) for host in hosts} - {""}
    for field in READERS:
        if not (found := list(_named(placed, field))):
            continue
        ours, depth = _boundary(placed, known)
        good = [
            (each.depth, name)
            for each, _, name in found
            if each.depth < depth or (each.depth == depth and name in ours)
        ]
        names = [name for at, name in good if at == good[0][0]]
        if names:
            return Own(field, tuple(dict.fromkeys(names)), good[0][0], len(names), above=good[0][0] < depth)
    return None


class Learner:
    """What is known of each mailbox's receiver. Only mails of ours, whose token was verified, may teach it."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[Own | None]] = {}

    def learn(self, mailbox: str, fields: Fields, hosts: Iterable[str] = ()) -> None:
        """One probe came. `hosts`: names of the receiver's that are known, as of its IMAP server and its domain."""
        if mailbox not in self._seen and len(self._seen) >= _MAILBOXES:
            del self._seen[next(iter(self._seen))]
        self._seen.setdefault(mailbox, deque(maxlen=_REMEMBERED)).append(sight(place(fields), hosts))

    def own(self, mailbox: str) -> Own | None:
        """How this mailbox's receiver signs; None while too few mails agree, or where it cannot be told for certain."""
        seen = self._seen.get(mailbox, ())
        signed = [own for own in seen if own]
        lately = {_kind(own) for own in signed[-_NEEDED:]}
        if len(signed) < _NEEDED or len(lately) > 1:
            return None
        alike = [own for own in signed if _kind(own) in lately]
        above = all(own.above for own in alike)
        if not above and len(signed) < len(seen):
            return None
        names = tuple(dict.fromkeys(name for own in alike for name in own.names))
        number = (max if above else min)(own.number for own in alike)
        return Own(alike[0].field, names, max(own.depth for own in alike), number, above)


def _kind(own: Own) -> tuple[str, str]:
    return own.field, own.names[0]


def _named(placed: Sequence[Placed], field: str) -> Iterator[tuple[Placed, Said, str]]:
    """(it, what it says, in whose name) for each such field."""
    for each in [each for each in placed if each.name == field][:_MOST_SAID]:
        what = READERS[field](each.value)
        yield each, what, organisation(what.by) or what.by


def _boundary(placed: Sequence[Placed], ours: set[str]) -> tuple[set[str], int]:
    """(the receiver's organisations, how many Received from the top are its own).

    From the top, the first host with a public name is the receiver's, if the mail came to those above it from nowhere
    else. The receiver's last is the one that had the mail from somewhere else.
    """
    depth, met = 0, False
    for number, value in enumerate((each.value for each in placed if each.name == "received"), 1):
        by = _BY.search(_COMMENT.sub(_blank, value[:_LONGEST_RECEIVED]))
        host = organisation(by[1]) if by else ""
        if host and not met:
            ours, met = ours | {host}, True
        if host and host not in ours:
            break
        depth = number if host else depth
        if by and _came_from_elsewhere(value[: by.start()], ours):
            depth = number
            break
    return ours, depth


def _blank(comment: re.Match[str]) -> str:
    return " " * len(comment[0])


def _came_from_elsewhere(clause: str, ours: set[str]) -> bool:
    name, address = _FROM.match(clause), _IP.search(clause)
    host = organisation(name[1]) if name else ""
    if host in ours:
        return False
    try:
        return ip_address(address[1]).is_global if address else bool(host)
    except ValueError:
        return bool(host)
