"""The client that a Received field tells of: who connected, from where, and what it called itself.

Rule: an address in a comment is the connection's, and goes before one in the name, which the client chose itself; a
name is the DNS's only where the server's form says so.

    sendmail, Postfix   from HELO (RDNS [ip])
    qmail, GMX          from RDNS (HELO name) (ident@ip)      without HELO: both are the same
    Exim                from RDNS ([ip] helo=name ident=user)  without helo: both are the same
    Exchange, XMail     from HELO (ip)                         Courier: from HELO (RDNS [ip])
    CommuniGate         from HELO ([ip] verified)              from [ip] (account user HELO name)
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from probe.core.trace import Clause, Token, Trace, without_brackets

_HELO = re.compile(r"(?<![\w-])(?:(?:HELO|EHLO|LHLO)[\x20=]|claiming to be)\x20*\"?([^\x20\")]*)", re.I)
_IDENT = re.compile(r"(?<![\w-])ident=(\S+)", re.I)
_VERIFIED = re.compile(r"\]\x20verified\b", re.I)
_LITERAL = re.compile(r"\[([^\[\]]*+)\]")
_IPV4 = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?:[:.]\d{1,5})?")  # Exim 3 has a dot before the port
_IPV6 = re.compile(r"(?:IPv6:)?([0-9a-f]{0,4}:[0-9a-f.:]{1,45})(?:%\w+)?", re.I)
_HOST = re.compile(r"[\w-]++(?:\.[\w-]++)++\.?")
_PORT = re.compile(r"([^:]++):\d{1,5}")
_NO_NAMES = {"unknown", "unverified", "verified", "softdnserr", "nodnsquery", "local"}
_MOST = 8  # comments that are looked at


class Client(NamedTuple):
    """What `from` says; "" where it says nothing. `ip` is in its shortest form."""

    name: str = ""
    ip: str = ""
    helo: str = ""
    rdns: str = ""
    ident: str = ""


def read_client(trace: Trace, *, name_is_verified: bool) -> Client:
    """`name_is_verified`: whether this server takes the name from the DNS where it names no other."""
    clause = _from(trace)
    if not clause:
        return Client()
    name = "" if clause[0].comment else clause[0].text
    words = [token.text for token in clause if not token.comment]
    comments = [token.text for token in clause if token.comment][:_MOST]
    said = [_peer(comment) for comment in comments]
    rdns = next((peer.rdns for peer in said if peer.rdns), "")
    ident = next((peer.ident for peer in said if peer.ident), "")
    called = [match for text in (*comments, " ".join(words)) if (match := _HELO.search(text))]
    helo = next((match[1] for match in called if match[1]), "")
    literals = (address(word) for word in words[1:] if word[0] == "[")
    named = address(name)
    ip = next(filter(None, (*(peer.ip for peer in said), *literals)), named)
    verified = called or ident or (name_is_verified and ip) or any(map(_VERIFIED.search, comments))
    if not rdns and verified and not named and name.lower() not in _NO_NAMES:
        rdns = host(name)
    return Client(host(name), ip, helo or (name if ip else ""), rdns, ident)


def address(word: str) -> str:
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


def host(word: str) -> str:
    """The name without brackets and port."""
    name = without_brackets(word)
    match = _PORT.fullmatch(name)
    return match[1] if match else name


def _from(trace: Trace) -> Clause:
    """The first clause that is not a sender's address behind `by`; or a comment "from host [address]"."""
    by_seen = False
    for name, clause in trace.clauses:
        by_seen |= name == "by"
        if name == "from" and clause and not (by_seen and not clause[0].comment and clause[0].text[0] == "<"):
            return clause
    words = re.match(r"from ([^\x20@]++) (\[.*)", trace.comments[0], re.I) if trace.comments else None
    return [Token(words[1]), Token(words[2])] if words else []


def _peer(comment: str) -> Client:
    """What one comment says, without the names of HELO."""
    ident = _IDENT.search(comment)
    rest = _IDENT.sub("", _HELO.sub("", comment)).strip()
    literal = _LITERAL.search(rest)
    words = (rest[: literal.start()] if literal else rest).split(maxsplit=8)
    ip = address(literal[1]) if literal else ""
    if not literal and 0 < len(words) < 4:
        user, at, word = max((words[0].rpartition("@"), words[-1].rpartition("@")), key=lambda it: bool(address(it[2])))
        if ip := address(word):
            words = [user + at] if at else words[:-1]
    if not words or not (literal or ip or len(words) == 1):
        return Client(ip=ip, ident=ident[1] if ident else "")
    user, at, name = words[-1].rpartition("@")
    known = name and name.lower().rstrip(":") not in _NO_NAMES and (literal or _HOST.fullmatch(name))
    return Client(ip=ip, rdns=name if known else "", ident=ident[1] if ident else user if at else "")
