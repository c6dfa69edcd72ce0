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
_MORE = re.compile(r"[\x20=]")  # most comments are but an address
_IDENT = re.compile(r"(?<![\w-])ident=(\S+)", re.I)
_ASIDE = re.compile(  # CommuniGate; PMDF: "port 25"@; PP, Smail
    r"(?<![\w-])account\x20(?:<[^>]*+>|\S++)|\"[^\"]*+\"@|\A(?:actually|really)\x20(?:host\x20)?", re.I
)
_VERIFIED = re.compile(r"\]\x20verified\b", re.I)
_LITERAL = re.compile(r"\[([^\[\]]*+)\]")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_BEHIND = r"(?:[:.]\d{1,5}|_\w{1,20})?"  # a port, of Exim 3 with a dot; "_trustedrelay"
_IPV4 = re.compile(rf"({_OCTET}(?:\.{_OCTET}){{3}}){_BEHIND}", re.A)
_IPV6 = re.compile(r"(?:IPv6:)?([0-9a-f]{0,4}:[0-9a-f.:]{1,45})(?:%\w+)?", re.I)
_HOST = re.compile(r"[\w-]++(?:\.[\w-]++)++\.?")
_PORT = re.compile(r"([^:]++):\d{1,5}")
_UNKNOWN = re.compile(r"unknown(?:[_-]?(?:domain|host|name))?", re.I)
_NO_NAME = re.compile(
    rf"(?:{_UNKNOWN.pattern}|(?:un)?verified|softdnserr|nodnsquery|no\.name\.available|local):?"
    r"|[\d.]+|.*[\[\]\"<>=].*",
    re.I,
)
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
    words = [token.text for token in clause if not token.comment]
    name = "" if clause[0].comment else " ".join(words) if words[1:] == ["pickup", "service"] else clause[0].text
    comments = [token.text for token in clause if token.comment][:_MOST]
    said = [_peer(comment) for comment in comments]
    rdns = next((peer.rdns for peer in said if peer.rdns), "")
    ident = next((peer.ident for peer in said if peer.ident), "")
    called = [match for text in (*comments, " ".join(words)) if _MORE.search(text) and (match := _HELO.search(text))]
    helo = next((match[1] for match in called if match[1]), "")
    differs = any("=" not in match[0] or match[1].lower() != name.lower() for match in called)  # Exim: only if it does
    logged_in = any(" with " in comment.lower() for comment in comments)  # Yahoo: from HELO (user@ip with login)
    named = address(name)
    seen = next(filter(None, (*(peer.ip for peer in said), *map(address, words[1:]))), "")
    ip = seen or named
    verified = differs or ((name_is_verified or ident) and not logged_in) or any(map(_VERIFIED.search, comments))
    if rdns and name_is_verified and ip and not (named or any(peer.ip for peer in said)):
        helo, rdns = rdns, host(name)  # Exim 3: from RDNS (HELO) [ip]
    if not rdns and verified and (ip or "." in name) and not (named or _NO_NAME.fullmatch(name)):
        rdns = host(name)
    told = ip and (seen or name[0] == "[") and "$" not in name  # InterScan: from ip; Coremail: from user$domain
    if not helo and told and (not _UNKNOWN.fullmatch(name) or rdns or any("[" in comment for comment in comments)):
        helo = name.strip('"')
    return Client(host(name), ip, helo, rdns, ident)


def address(word: str) -> str:
    """The IP address that this word is, with or without brackets, port, zone and prefixes; "" if it is none."""
    word = word.strip("[] ")
    if match := _IPV4.fullmatch(word):
        return match[1]
    if not (match := _IPV6.fullmatch(word)):
        return ""
    try:
        found = ipaddress.ip_address(match[1])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def host(word: str) -> str:
    """The name without brackets and port."""
    name = without_brackets(word).strip('"')
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
    ident, rest = None, comment
    if _MORE.search(comment):
        ident = _IDENT.search(comment)
        rest = _ASIDE.sub("", _IDENT.sub("", _HELO.sub("", comment))).strip()
    literals = list(_LITERAL.finditer(rest)) if "[" in rest else []
    literal = next((it for it in literals if address(it[1])), literals[0] if literals else None)
    words = (rest[: literal.start()] if literal else rest).split(maxsplit=8)
    ip = address(literal[1]) if literal else ""
    if not literal and 0 < len(words) < 4:  # "dsl-9.example 192.0.2.1", "joe@192.0.2.1 with login"
        for place, word in enumerate(words[:2] if len(words) < 3 else words[:1]):
            user, at, last = word.rpartition("@")
            if ip := address(last.rstrip(",")):
                words = [user + at] if at else words[:place]
                break
    if not words or not (literal or ip or len(words) == 1):
        return Client(ip=ip, ident=ident[1] if ident else "")
    user, at, name = words[-1].rstrip(",/;").rpartition("@")
    known = bool(literal and len(words) == 1) or ((ip or not literal) and bool(_HOST.fullmatch(name)))
    if not known or _NO_NAME.fullmatch(name) or address(name):
        name = ""
    return Client(ip=ip, rdns=name, ident=ident[1] if ident else user.removeprefix("IDENT:") if at else "")
