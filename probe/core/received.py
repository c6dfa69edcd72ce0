"""Received fields (RFC 5321 §4.4) as servers write them, and the hops that they tell of.

Rules:
- What cannot be read is empty or None, and never guessed. Never raises, and takes linear time, whatever the text.
- Hops stand in the order of the fields, for every server puts its own on top; dates do not sort them: clocks differ.

Google's X-Received fields are no hops: they tell of a mail's ways between the processes of one provider, and where
among the Received fields they stood is not known of a head. `parse` and `stamp` read them too, to the millisecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from probe.core import dates, session
from probe.core.client import address, host, read_client
from probe.core.headers import Head
from probe.core.trace import Trace, take_apart, without_brackets

MOST_HOPS: Final = 200  # Postfix gives a mail up at 50, Sendmail at 25

_ENVELOPE_FROM = re.compile(
    r"(?:(?<![\w-])envelope-(?:from|sender)[\x20=:]|\((?:sender|return-path|mailfrom)[\x20:]|mail_from\x20\()\x20*"
    r"(?:<([^<>]*)>|([^\x20<>,;)]+))",
    re.I,
)
_MULTIPLE = re.compile(r"<?multiple(?:[-\x20]recipients)?>?", re.I)
_NO_SOFTWARE = re.compile(
    r"(?:\S+\x20)?\[|(?:envelope-|cipher|using\x20|version=|node=|via\x20)|(?:TLS|SSL)(?:[v_-]?\d|\Z)|UNKNOWN:", re.I
)


@dataclass(frozen=True, slots=True)
class Hop:
    """What one server wrote when it took the mail over; "" where it says nothing.

    date: Unix time by that server's clock, cut to what is written: the true stamp lies in [date, date + resolution),
    in seconds. None where there is none, or none with a zone; `date_naive` is then what the clock showed (ISO 8601).
    """

    from_: str = ""
    by: str = ""
    ip: str = ""  # the client's, as this server saw it
    helo: str = ""  # as the client called itself
    rdns: str = ""  # as the DNS calls the client's address
    ident: str = ""  # RFC 1413
    protocol: str = ""  # `with_` as a keyword in capitals: RFC 3848, and the usual others
    with_: str = ""
    via: str = ""
    id: str = ""
    for_: str = ""
    envelope_from: str = ""
    auth: str = ""  # that the client was authenticated: the mechanism, else the keyword or server that says so
    tls_version: str = ""  # this and the next: as written
    tls_cipher: str = ""
    date: float | None = None
    resolution: float = 1.0
    date_naive: str = ""
    software: str = ""  # the first comment behind `by`


def hops(head: Head) -> tuple[Hop, ...]:
    """The mail's way, oldest first; see the module's rules."""
    return tuple(parse(value) for value in reversed(head.get("received", [])[:MOST_HOPS]))


def parse(value: str | bytes) -> Hop:
    """What one field says: its value, folded or not."""
    trace = take_apart(value)
    (with_, protocol), id_, software = _with(trace), _id(trace), _software(trace)
    via = " ".join(trace.words("via"))
    qmail = with_ == "SMTP" and not id_ and not software and "[" not in trace.line
    gate = via.lower() in {"smap", "csmap", "smtp"} and "[" not in trace.line  # firewalls': from RDNS(ip)
    client = read_client(trace, name_is_verified=software.startswith("Exim") or qmail or gate)
    carried = protocol or session.keyword(via)
    version, cipher = session.tls(trace.line, with_)
    return Hop(
        from_=client.name,
        by=_by(trace),
        ip=client.ip,
        helo=client.helo if ("MTP" in carried or not carried) and not (gate and client.helo == client.name) else "",
        rdns=client.rdns,
        ident=client.ident,
        protocol=protocol,
        with_=with_,
        via=via,
        id=id_,
        for_=_for(trace),
        envelope_from=_envelope_from(trace),
        auth=session.login(trace.comments, with_, protocol, via, client.ip),
        tls_version=version,
        tls_cipher=cipher,
        date=trace.at,
        resolution=trace.resolution,
        date_naive=trace.naive,
        software=software,
    )


def as_json(hop: Hop) -> dict[str, str | None]:
    """What is known, under the names of RFC 5321's clauses; `date` always, in UTC with the digits that were written."""
    said = {
        "from": hop.from_,
        "by": hop.by,
        "ip": hop.ip,
        "helo": hop.helo,
        "rdns": hop.rdns,
        "ident": hop.ident,
        "protocol": hop.protocol,
        "with": hop.with_,
        "via": hop.via,
        "id": hop.id,
        "for": hop.for_,
        "envelope_from": hop.envelope_from,
        "auth": hop.auth,
        "date_naive": hop.date_naive,
        "tls_version": hop.tls_version,
        "tls_cipher": hop.tls_cipher,
    }
    date = None if hop.date is None else dates.iso(hop.date, hop.resolution)
    return {**{key: value for key, value in said.items() if value}, "date": date}


# -- clauses -------------------------------------------------------------------------------------------------------


def _by(trace: Trace) -> str:
    """The server; "by uid 7791" is a user of qmail's."""
    servers = (clause[0] for name, clause in trace.clauses if name == "by" and clause)
    return next((host(token.text) for token in servers if not token.comment and token.text != "uid"), "")


def _with(trace: Trace) -> tuple[str, str]:
    """(as written, as a keyword); a keyword in front goes without the rest"""
    words = trace.words("with")
    if words and (protocol := session.keyword(words[0])):
        return words[0], protocol
    return " ".join(words), session.keyword(" ".join(words[1:]))


def _id(trace: Trace) -> str:
    words = trace.words("id")
    if not words:
        return ""
    return without_brackets(words[0].removesuffix("for") if _glued(words) else words[0]).strip('"')


def _for(trace: Trace) -> str:
    id_words = trace.words("id")
    words = trace.words("for") or (id_words[1:] if _glued(id_words) else [])
    word = next((word for word in words if len(word) > 1 and word[0] == "<"), "".join(words[:1]))
    return "" if _MULTIPLE.fullmatch(word) else without_brackets(word)


def _glued(words: list[str]) -> bool:
    """As in "id 117for <a@example.org>"."""
    return len(words) > 1 and words[0].endswith("for") and words[1].startswith("<")


def _envelope_from(trace: Trace) -> str:
    """A comment or a clause of its own; or a second `from`, which XMail has behind the recipient."""
    low = trace.line.lower()
    clues = any(map(low.__contains__, ("envelope-", "(sender", "(return-path", "(mailfrom", "mail_from")))
    if clues and (match := _ENVELOPE_FROM.search(trace.line)):
        return match[1] or match[2] or ""
    addresses = (clause[0].text for name, clause in trace.behind("by") if name == "from" and clause)
    return without_brackets(next((text for text in addresses if text[:1] == "<" and "@" in text), ""))


def _software(trace: Trace) -> str:
    behind = (clause for name, clause in trace.behind("by") if name in {"by", "with", "tls"})
    comments = (token.text for clause in behind for token in clause if token.comment)
    return next((text for text in comments if not (address(text) or _NO_SOFTWARE.match(text))), "")


# -- finer stamps --------------------------------------------------------------------------------------------------


def stamp(hop: Hop) -> tuple[float, float] | None:
    """(at, resolution) in seconds, by the same clock as `Hop.date` and within it: finer where the id proves it.

    Postfix's short ids begin with microseconds, too, but not with their second: Postfix writes the time of MAIL, and
    names the queue file at the first RCPT that it accepts. Of 36 long ids, which tell both, 6 are of a later second.
    """
    if hop.date is None:
        return None
    for finer in (_by_postfix(hop), _by_google(hop), _by_domino(hop, hop.date)):
        if finer and hop.date <= finer[0] < hop.date + hop.resolution and finer[1] < hop.resolution:
            return finer
    return hop.date, hop.resolution


_SAFE = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"  # Postfix: safe_ultostr(3), no vowels
_LONG_ID = re.compile(
    rf"([{_SAFE}]{{6,8}})([{_SAFE}]{{4}})z[{_SAFE[:-1]}]+"
)  # mail_queue.h: seconds, microseconds, inode
_GOOGLE_ID = re.compile(r"[\w.-]+\.(\d{13})")
_DOMINO_ID = re.compile(r"(\d{14})(\d\d)[-:]\d+")


def _by_postfix(hop: Hop) -> tuple[float, float] | None:
    match = _LONG_ID.fullmatch(hop.id) if hop.software.startswith("Postfix") else None
    return (_number(match[1]) + _number(match[2]) / 1e6, 1e-6) if match else None


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * len(_SAFE) + _SAFE.index(digit)
    return value


def _by_google(hop: Hop) -> tuple[float, float] | None:
    match = _GOOGLE_ID.fullmatch(hop.id)
    return (int(match[1]) / 1e3, 1e-3) if match else None


def _by_domino(hop: Hop, date: float) -> tuple[float, float] | None:
    """The id has the local time; what separates it from the date must be a zone."""
    match = _DOMINO_ID.fullmatch(hop.id) if "Domino" in hop.software else None
    if not match:
        return None
    try:
        local = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    zone = local - date
    return (date + int(match[2]) / 100, 0.01) if zone % 900 == 0 and abs(zone) <= 50_400 else None
