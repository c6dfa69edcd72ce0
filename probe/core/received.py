"""Received fields (RFC 5321 §4.4) as servers write them, and the hops that they tell of.

Rules:
- A clause is read where its keyword stands, in any order; what cannot be read is empty or None, and never guessed.
- Never raises, whatever the text, and reads each character a bounded number of times.
- Hops stand in the order of the fields, for every server puts its own on top; dates do not sort them: clocks differ.

Comments are told from clauses first, by their parentheses; one that is not closed is none. The date is taken out next,
for it can stand anywhere, and without a semicolon. What is left is keywords and their values.

Google's X-Received fields are no hops: they tell of a mail's ways between the processes of one provider, as do some of
its Received fields, but where among these they stood is not known of a block that was read field by field. `parse` and
`stamp` read them as they do others, to the millisecond.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from probe.core import dates
from probe.core.headers import Head

LIMIT: Final = 16 * 1024  # characters of a field that are read; RFC 5322 §2.1.1 has no limit, servers have less
MOST_HOPS: Final = 200  # Postfix gives a mail up at 50, Sendmail at 25, Exchange at 60


@dataclass(frozen=True, slots=True)
class Hop:
    """What one server wrote when it took the mail over; "" where it says nothing.

    date: Unix time by that server's clock, cut to what is written: the true stamp lies in [date, date + resolution).
    None where there is none, or none with a zone; `date_naive` is then what the clock showed.
    """

    from_: str = ""
    by: str = ""
    ip: str = ""  # the client's, as this server saw it
    helo: str = ""  # as the client called itself
    rdns: str = ""  # as the DNS calls the client's address
    ident: str = ""  # RFC 1413
    protocol: str = ""  # `with_` as a keyword in capitals: RFC 3848 and the usual others
    with_: str = ""
    via: str = ""
    id: str = ""
    for_: str = ""
    envelope_from: str = ""
    auth: str = ""  # the SASL mechanism, or who says that the client was authenticated
    tls_version: str = ""
    tls_cipher: str = ""
    date: float | None = None
    resolution: float = 1.0
    date_naive: str = ""
    software: str = ""  # the first comment about `by`


_CLAUSES = frozenset({"from", "by", "via", "with", "id", "for"})  # RFC 5321 §4.4
_ENVELOPE = frozenset({"envelope-from", "envelope-sender"})
_OTHER_WORDS = frozenset({"tls", "over"})  # of Exim, of Microsoft: they end the clause before
_WORD = re.compile(r"<[^<>]*+>|\[[^\[\]]*+\]|;|[^\x20;<\[]+|[<\[]")

_NAMES = r"HTTPS?|IMAPS?|POP3S?|MAPI|UUCP|QMQP|QMTP|ECSTREAM|THRIFT|BSMTP|NNTP|WEBDAV|RPC|MMS"
_PROTOCOL = re.compile(
    rf"(?:(UTF8)?([AE]?SMTP|LMTP)(?:SVC)?(S?A?)|(local(?:-(?:b?e?smtp)?)?)\b.*|({_NAMES}))(?![\w-])", re.I
)

_HELO = re.compile(r"(?<![\w-])(?:[HEL]?HELO|LHLO)[\x20=]\x20*([^\x20)]*)|(?<![\w-])EHLO[\x20=]\x20*([^\x20)]*)", re.I)
_IDENT = re.compile(r"(?<![\w-])ident=(\S+)", re.I)
_LITERAL = re.compile(r"\[\x20*+((?:IPv6:)?[0-9a-f.:]++(?:%\w++)?)\x20*+\]", re.I)
_IPV4 = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?:[:.]\d{1,5})?")
_IPV6 = re.compile(r"(?:IPv6:)?([0-9a-f]{0,4}:[0-9a-f.:]{1,45}?)(?:%\w+)?", re.I)
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)+\.?")
_PORT = re.compile(r"([^:]+):\d{1,5}")
_NO_NAMES = frozenset({"unknown", "unverified", "softdnserr", "nodnsquery", "local"})

_ENVELOPE_FROM = re.compile(r"(?<![\w-])envelope-(?:from|sender)[\x20=:]\x20*(?:<([^<>]*)>|([^\x20<>,;)]+))", re.I)
_TLS = re.compile(r"(?<![\w.-])((?:TLS|SSL)[v_-]?\d(?:[._]\d)?(?:/SSLv\d)?)(?![\w.-])", re.I)
_CIPHER = re.compile(
    r"(?::|\)\x20tls\x20|,?\x20?(?:with\x20)?ciphers?[\x20=:]\x20?|,\x20\d+\x20?bits,\x20)([\w+-]+)", re.I
)
_ONLY_CIPHER = re.compile(r"(?<![\w.-])cipher=([\w+-]+)|(?<![\w-])([\w-]+)\x20encrypted\x20SMTP", re.I)
_AUTH = (
    (re.compile(r"(?<!\w)AUTH[:=]\x20?([\w-]+)", re.I), r"\1"),  # Courier
    (re.compile(r"Authenticated sender:", re.I), "Postfix"),
    (re.compile(r"authenticated(?: bits=|$| \()", re.I), "Sendmail"),
    (re.compile(r"authenticated user\b", re.I), "HTTP"),  # SquirrelMail and its relatives
    (re.compile(r"account \S+ ", re.I), "CommuniGate"),
)


class _Token(NamedTuple):
    text: str
    comment: bool = False


_Clause = list[_Token]
_Clauses = list[tuple[str, _Clause]]


def hops(head: Head) -> tuple[Hop, ...]:
    """The mail's way, oldest first; see the module's rules."""
    newest_first = head.get("received", ())[:MOST_HOPS]
    return tuple(parse(value) for value in reversed(newest_first))


def parse(value: str | bytes) -> Hop:
    """What one field says: its value, folded or not."""
    line = _line(value)
    comments = _comments(line)
    bare = _blanked(line, comments)
    written, zone = _date(line, bare, comments)
    if written:
        bare = f"{bare[: written.start]}{';'.ljust(written.end - written.start)}{bare[written.end :]}"
    clauses = list(_clauses(_tokens(line, bare, comments)))
    spoken = [line[start + 1 : end - 1] for start, end in comments]
    client = _client(clauses, spoken)
    with_ = _with(clauses)
    sent_by, tls = _envelope_from(clauses, line), _tls(line, with_)
    by = _by(clauses)
    at, naive = (written.at, written.naive) if written else (None, "")
    if naive and zone is not None:
        at, naive = dates.shifted(naive, zone), ""
    protocol = _protocol(with_)
    return Hop(
        from_=client.name,
        by=by,
        ip=client.ip,
        helo=client.helo,
        rdns=client.rdns,
        ident=client.ident,
        protocol=protocol,
        with_=with_,
        via=" ".join(_words(clauses, "via")),
        id=_id(clauses),
        for_=_for(clauses),
        envelope_from=sent_by,
        auth=_auth(spoken, protocol, with_),
        tls_version=tls[0],
        tls_cipher=tls[1],
        date=at,
        resolution=written.resolution if written else 1.0,
        date_naive=naive,
        software=_software(clauses),
    )


# -- the line, its comments and its date ---------------------------------------------------------------------------


def _line(value: str | bytes) -> str:
    """Unfolded, on one line, printable; bounded."""
    text = value[:LIMIT].decode("latin-1") if isinstance(value, bytes) else value[:LIMIT]
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _comments(line: str) -> list[tuple[int, int]]:
    """Where the outermost comments are. RFC 5322 §3.2.2 has escapes in them; servers have /\\ in their names instead."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    for match in re.finditer(r"[()]", line):
        if match[0] == "(":
            opened.append(match.start())
        elif opened:
            start = opened.pop()
            while found and found[-1][0] > start:
                found.pop()
            found.append((start, match.end()))
    return found


def _blanked(line: str, comments: list[tuple[int, int]]) -> str:
    """The line with spaces for its comments, each character in its place."""
    pieces, end = [], 0
    for start, stop in comments:
        pieces += line[end:start], " " * (stop - start)
        end = stop
    return "".join([*pieces, line[end:]])


def _date(line: str, bare: str, comments: list[tuple[int, int]]) -> tuple[dates.Written | None, timedelta | None]:
    """The stamp, and the zone that a comment behind it gives. The last behind a semicolon, else the last of all."""
    found = list(dates.find(bare)) or [it for it in dates.find(line) if _behind_semicolon(line, it)]
    if not found:
        return None, None
    best = max(found, key=lambda it: (_behind_semicolon(bare, it), it.start, it.end))
    behind = next((line[start + 1 : end - 1] for start, end in comments if start >= best.end), "")
    return best, dates.zone(behind)


def _behind_semicolon(text: str, written: dates.Written) -> bool:
    """A day of the week may stand between."""
    return bool(
        re.search(r";[\x20]?(?:[^\W\d]{2,9}[,.]?[\x20]{0,2})?\Z", text[max(0, written.start - 16) : written.start])
    )


# -- clauses -------------------------------------------------------------------------------------------------------


def _tokens(line: str, bare: str, comments: list[tuple[int, int]]) -> Iterator[_Token]:
    """Words, literals, semicolons and comments, in their order."""
    waiting = iter(comments)
    comment = next(waiting, None)
    for match in _WORD.finditer(bare):
        while comment and comment[0] < match.start():
            yield _Token(line[comment[0] + 1 : comment[1] - 1].strip(), comment=True)
            comment = next(waiting, None)
        yield _Token(match[0])
    if comment:
        for start, end in itertools.chain([comment], waiting):
            yield _Token(line[start + 1 : end - 1].strip(), comment=True)


def _clauses(tokens: Iterator[_Token]) -> Iterator[tuple[str, _Clause]]:
    """(keyword in lower case, what follows); what precedes the first keyword, or follows a semicolon, has ""."""
    keyword, clause = "", []
    for token in tokens:
        word = "" if token.comment else token.text.lower()
        if word == ";" or word in _CLAUSES or word in _ENVELOPE or word in _OTHER_WORDS:
            yield keyword, clause
            keyword, clause = word.strip(";"), []
        else:
            clause.append(token)
    yield keyword, clause


def _all(clauses: _Clauses, keyword: str) -> Iterator[list[str]]:
    """The words of each clause of this name, up to a comment behind them."""
    for name, clause in clauses:
        if name == keyword:
            words = itertools.dropwhile(lambda token: token.comment, clause)
            yield [token.text.rstrip(",") for token in itertools.takewhile(lambda token: not token.comment, words)]


def _words(clauses: _Clauses, keyword: str) -> list[str]:
    return next(filter(None, _all(clauses, keyword)), [])


def _by(clauses: _Clauses) -> str:
    """The server. "by uid 7791" is a user of qmail's, and a word behind a comment belongs to nobody."""
    return next(
        (_host(c[0].text) for n, c in clauses if n == "by" and c and not c[0].comment and c[0].text != "uid"), ""
    )


def _with(clauses: _Clauses) -> str:
    words = _words(clauses, "with")
    return words[0] if words and _protocol(words[0]) else " ".join(words)


def _id(clauses: _Clauses) -> str:
    words = _words(clauses, "id")
    if not words:
        return ""
    glued = len(words) > 1 and words[1].startswith("<")  # "id 117for <a@b>"
    return _bare(words[0].removesuffix("for") if glued else words[0])


def _for(clauses: _Clauses) -> str:
    words = _words(clauses, "for") or next((it[1:] for it in _all(clauses, "id") if it[1:2] and it[1][0] == "<"), [])
    return "" if [word.lower() for word in words[:2]] == ["multiple", "recipients"] else _bare("".join(words[:1]))


def _envelope_from(clauses: _Clauses, line: str) -> str:
    """As a comment or a clause of its own; or as a second `from`, which XMail has behind the recipient."""
    if match := _ENVELOPE_FROM.search(line):
        return match[1] or match[2] or ""
    behind = itertools.dropwhile(lambda clause: clause[0] != "by", clauses)
    addresses = (clause[0].text for name, clause in behind if name == "from" and clause)
    return _bare(next((text for text in addresses if text.startswith("<") and "@" in text), ""))


def _software(clauses: _Clauses) -> str:
    behind = itertools.dropwhile(lambda clause: clause[0] != "by", clauses)
    comments = (token.text for _, clause in behind for token in clause if token.comment)
    return next((text for text in comments if not _address(text) and not _LITERAL.search(text)), "")


def _protocol(words: str) -> str:
    """The keyword: ESMTPS of "esmtps", SMTP of "Microsoft SMTP Server" and of "local-bsmtp", ESMTPA of "asmtp"."""
    for word in re.split(r"[\x20/\[\]]", words):
        if match := _PROTOCOL.fullmatch(word):
            utf8, smtp, how, local, name = (part.upper() if part else "" for part in match.groups())
            if local:
                return "SMTP" if local.endswith("SMTP") else "LOCAL"
            if smtp:
                return f"{utf8}ESMTP{how}A" if smtp == "ASMTP" else f"{utf8}{smtp}{how}"
            return name
    return ""


def _tls(line: str, with_: str) -> tuple[str, str]:
    """(version, cipher suite), each as written."""
    if version := _TLS.search(line):
        cipher = _CIPHER.match(line, version.end())
        return version[1], cipher[1] if cipher else ""
    cipher = _ONLY_CIPHER.search(line)
    if cipher:
        return "", cipher[1] or cipher[2]
    way = with_.split("/")  # IronPort: ESMTP/TLS/DHE-RSA-AES256-SHA
    return "", way[2] if len(way) == 3 and way[1].upper() == "TLS" else ""


def _auth(comments: list[str], protocol: str, with_: str) -> str:
    for comment in comments:
        for pattern, said in _AUTH:
            if match := pattern.match(comment) or (said == "HTTP" and pattern.search(comment)):
                return match.expand(said)
    return with_ if re.fullmatch(r"(?:UTF8)?(?:ESMTP|LMTP)S?A", protocol) else ""


# -- the client ----------------------------------------------------------------------------------------------------


class _Client(NamedTuple):
    name: str = ""
    ip: str = ""
    helo: str = ""
    rdns: str = ""
    ident: str = ""


def _client(clauses: _Clauses, comments: list[str]) -> _Client:
    """What `from` says. Its name is what the client called itself, unless that stands in a comment (qmail, Exim): then
    it is the DNS's. An address in a comment is the connection's, and better than one in the name."""
    clause = _from(clauses, comments)
    if not clause:
        return _Client()
    name = "" if clause[0].comment else clause[0].text
    ip = helo = rdns = ident = ""
    outside = ""
    for token in clause:
        if not token.comment:
            outside = outside or (_address(token.text) if token.text[0] == "[" and token is not clause[0] else "")
            continue
        peer = _peer(token.text)
        ip, helo, rdns, ident = ip or peer.ip, helo or peer.helo, rdns or peer.rdns, ident or peer.ident
    named = _address(name)
    if not rdns and (helo or ident) and not named and name.lower() not in _NO_NAMES:
        rdns = _host(name)
    ip = ip or outside or named
    return _Client(_host(name), ip, helo or (name if ip else ""), rdns, ident)


def _from(clauses: _Clauses, comments: list[str]) -> _Clause:
    """The first clause that is not a sender's address behind `by`; or a comment "from host [address]"."""
    by_seen = False
    for name, clause in clauses:
        by_seen |= name == "by"
        if name == "from" and clause and not (by_seen and clause[0].text.startswith("<") and not clause[0].comment):
            return clause
    if comments and (words := re.match(r"from ([^\x20@]++) (\[.*)", comments[0], re.I)):
        return [_Token(words[1]), _Token(words[2])]
    return []


def _peer(comment: str) -> _Client:
    """What a comment behind `from` says of the connection, in any of these forms:
    host [ip] · ident@host [ip] · ident@ip · ip:port · HELO name · [ip] helo=name ident=user · word ip · host
    """
    helo, ident = _HELO.search(comment), _IDENT.search(comment)
    rest = _IDENT.sub("", _HELO.sub("", comment)).strip()
    said = _Client(helo=(helo[1] or helo[2] or "") if helo else "", ident=ident[1] if ident else "")
    literal = _LITERAL.search(rest) or re.search(r"\[([^\[\]]*+)\]", rest)
    words = (rest[: literal.start()] if literal else rest).split()
    ip = _address(literal[1]) if literal else ""
    if not literal and words and len(words) < 4:
        for place in (-1, 0):
            if not ip and (ip := _address(words[place].rpartition("@")[2])):
                words = [words[place].rpartition("@")[0] + "@"] if "@" in words[place] else words[:-1]
    if not words or not (literal or ip or len(words) == 1):
        return said._replace(ip=ip)
    user, at, host = words[-1].rpartition("@")
    rdns = host if host and host.lower().rstrip(":") not in _NO_NAMES and (literal or _HOST.fullmatch(host)) else ""
    return said._replace(ip=ip, rdns=rdns, ident=said.ident or (user if at else ""))


def _address(word: str) -> str:
    """The IP address that this word is, with or without brackets, port, zone and prefixes; "" if it is none."""
    word = word.strip("[] ")
    match = _IPV4.fullmatch(word) or _IPV6.fullmatch(word)
    if not match:
        return ""
    try:
        found = ipaddress.ip_address(match[1])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _host(word: str) -> str:
    """The name without brackets and port."""
    name = _bare(word)
    match = _PORT.fullmatch(name)
    return match[1] if match else name


def _bare(word: str) -> str:
    word = word.rstrip(",")
    return word[1:-1] if word[:1] in {"<", "["} and word[-1:] in {">", "]"} and len(word) > 1 else word
