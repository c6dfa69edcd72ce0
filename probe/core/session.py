"""The session by which a mail was handed over, as a Received field tells of it: protocol, TLS, and who logged in.

Rule: of TLS and of logins it is told as it is written; only protocols are made keywords.
"""

from __future__ import annotations

import re

_NAMES = (
    r"HTTP(?:[SU]|REST)?|IMAP4?(?:S|-SSL)?|POP3(?:S|-SSL)?|MAPI|UUCP|QMQP|QMTP|ECSTREAM|THRIFT|NNTP|(?:WEB)?DAV|RPC|MMS"
)
_PROTOCOL = re.compile(
    rf"(?:local-|P:)?(?P<utf8>UTF8)?(?P<smtp>[ABE]?SMTP|LMTP)(?:SVC)?(?P<how>S?A?|-TLS)|(?P<local>local)(?:-.*)?"
    rf"|(?P<name>{_NAMES})",
    re.I,
)
_TLS = re.compile(r"(?<![\w.-])(?:TLS\\)?((?:TLS|SSL)[v_-]?\d(?:[._]?\d)?(?:/SSLv\d)?)(?![\w.-])", re.I)
_CIPHER = re.compile(
    r"(?::|\)\x20tls\x20|,?\x20?(?:with\x20)?ciphers?[\x20=:]\x20?|,\x20?\d+\x20?bits,\x20?)([\w+-]+)", re.I
)
_ONLY_CIPHER = re.compile(
    r"(?<![\w.-])(?:cipher=|cipher\x20(?=\w+[-_])|UNKNOWN:)([\w+-]+)"
    r"|(?<![\w-])([^\W_]++[_-][\w-]++)\x20encrypted(?:\x20SMTP|[),])",
    re.I,
)
_LOGIN = re.compile(
    r"(?:AUTH[:=]\x20?|smtp-auth\x20.*\bmechanism\x20"  # Courier, qpsmtpd
    r"|via\x20(?=HTTP\w?\Z)"  # GMX
    r"|(?:\S*@)?\[?[\d.]{7,15}\]?\x20with\x20(?=(?:login|plain|poptoken|[\w-]+-md5)\Z))(?P<said>[\w-]+)"  # Yahoo
    r"|(?P<Postfix>Authenticated\x20sender:)|(?P<Sendmail>authenticated(?:\x20bits=|\x20\(|\Z))"
    r"|(?P<CommuniGate>account\x20\S+\x20)|(?P<CriticalPath>authenticated\x20as\x20)",
    re.I,
)
_WITH_LOGIN = re.compile(r"(?:ESMTP|(?:UTF8)?LMTP|UTF8SMTP)S?A")  # RFC 3848, RFC 6531
_WEBMAIL = re.compile(r"(?:.*\x20)?(HTTP(?:U|-DAV)?)", re.I)


def keyword(words: str) -> str:
    """ESMTPS of "esmtps", SMTP of "Microsoft SMTP Server" and of "local-bsmtp", ESMTPA of "asmtp"."""
    for word in re.split(r"[\x20/\[\]]", words):
        if match := _PROTOCOL.fullmatch(word):
            utf8, smtp, how, local, name = (part.upper() if part else "" for part in match.groups())
            how = "S" if how == "-TLS" else f"{how}A" if smtp == "ASMTP" else how
            name = name.replace("IMAP4", "IMAP").replace("-SSL", "S")
            return local or name or f"{utf8}{smtp.replace('ASMTP', 'ESMTP').removeprefix('B')}{how}"
    return ""


def tls(line: str, with_: str) -> tuple[str, str]:
    """(version, cipher suite)"""
    low = line.lower()
    if ("tls" in low or "ssl" in low) and (version := _TLS.search(line)):
        cipher = _CIPHER.match(line, version.end())
        return version[1], cipher[1] if cipher else ""
    if any(map(low.__contains__, ("cipher", "encrypted", "unknown:"))) and (cipher := _ONLY_CIPHER.search(line)):
        return "", cipher[1] or cipher[2]
    way = with_.split("/")  # IronPort: ESMTP/TLS/DHE-RSA-AES256-SHA
    return "", way[2] if len(way) == 3 and way[1].upper() == "TLS" else ""


def login(comments: list[str], with_: str, protocol: str, via: str, ip: str) -> str:
    """That the client was authenticated: the mechanism, the protocol, the server whose comment says so, or webmail,
    which is a person's."""
    found = next(filter(None, map(_LOGIN.match, comments)), None)
    if found and found["said"]:
        return found["said"]
    if _WITH_LOGIN.fullmatch(protocol):
        return protocol if " " in with_ else with_
    if found:
        return found.lastgroup or ""
    webmail = _WEBMAIL.fullmatch(with_ or via) if ip else None
    return webmail[1] if webmail else ""
