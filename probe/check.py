"""`mailprobe check`: what every account can do, and what is wrong, in words that name the mend.

Rule: it changes nothing that it does not put back. To see a mail server's clock it stores one small mail of its own in
INBOX (marked as read), reads the server's stamp, and removes that very mail again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from probe import clock
from probe.core.settings import Account, Server
from probe.core.words import duration
from probe.mail.folders import choose
from probe.mail.imap import AuthRefused, Connection, ImapError
from probe.mail.net import Unreachable
from probe.mail.oauth import NoToken, Tokens
from probe.mail.smtp import Submitter

_SOON = 21 * 86400.0  # a certificate with less than three weeks left should have been renewed by now
_CLOCK_OFF = 5.0
_TIMEOUT = 15.0

_MENDS = {
    "auth_refused": "check username and password; many providers want an app password for programs, or OAuth",
    "access_token_refused": "is it for this username, with a scope for IMAP and SMTP, and does the account allow both?",
    "token_refused": "the refresh token must be got anew from the provider, or client_id and client_secret are wrong",
    "token_garbled": "is oauth.token_url the provider's token endpoint?",
    "token_unreachable": "check oauth.token_url and this machine's network",
    "token_timeout": "check oauth.token_url and this machine's network",
    "no_auth_mechanism": "the server offers no way to log in that mailprobe knows; is this its submission port?",
    "certificate_expired": "the provider must renew the certificate",
    "wrong_name": "the certificate is for another host; use the name that the provider documents",
    "unknown_ca": "if the server has its own CA, name its certificate as ca_file",
    "dns_failure": "check the host name and this machine's DNS",
    "refused": "nothing listens there; check host and port",
    "timeout": "no answer; check host, port and firewalls (many networks block port 25)",
    "starttls_not_offered": 'the server offers no STARTTLS here; try port 465 or 993 with tls = "implicit"',
    "starttls_refused": 'the server refuses to start TLS here; try port 465 or 993 with tls = "implicit"',
    "handshake_failure": 'no TLS spoken there; if the port is 587 or 143, say tls = "starttls"',
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about one account."""

    account: str
    level: Literal["ok", "warning", "bad"]
    text: str


async def check(account: Account) -> AsyncIterator[Finding]:
    """Findings about this account, as they come. Raises nothing for what a server or network does."""
    tokens = Tokens(account.oauth, clock.now, _TIMEOUT) if account.oauth else None
    if account.smtp:
        async for finding in _smtp(account, account.smtp, tokens):
            yield finding
    if account.imap:
        async for finding in _imap(account, account.imap, tokens):
            yield finding


async def _smtp(account: Account, server: Server, tokens: Tokens | None) -> AsyncIterator[Finding]:
    submitter = Submitter(account, clock.now, random.Random(), timeout=_TIMEOUT, tokens=tokens)  # noqa: S311 - jitter
    where = f"SMTP {server.host}:{server.port}"
    found = await submitter.survey()
    if not isinstance(found, tuple):
        stage = getattr(found, "stage", "data")
        reason = getattr(found, "reason", "")
        detail = getattr(found, "detail", "") or str(getattr(found, "reply", ""))
        if tokens and reason == "auth_refused":
            reason = "access_token_refused"
        yield Finding(account.name, "bad", _trouble(f"{where}: {stage}", reason, detail))
        return
    extensions, mechanisms = found
    logged_in = "logged in" if account.password or tokens else "without log-in"
    yield Finding(account.name, "ok", f"{where}: {logged_in}; AUTH {' '.join(mechanisms) or 'none'}")
    yield Finding(account.name, "ok", f"extensions: {' '.join(sorted(extensions))}")
    for finding in _certificate(account, submitter.certificate_not_after):
        yield finding


async def _imap(account: Account, server: Server, tokens: Tokens | None) -> AsyncIterator[Finding]:
    where = f"IMAP {server.host}:{server.port}"
    try:
        token = await tokens.get() if tokens else None
        async with await Connection.open(server, clock=clock.now, timeout=_TIMEOUT) as connection:
            if token:
                await connection.show_token(account.username, token)
            else:
                assert account.password is not None  # config/ sees to it
                await connection.login(account.username, account.password)
            yield Finding(account.name, "ok", f"{where}: logged in")
            for finding in _abilities(account, connection):
                yield finding
            async for finding in _folders(account, connection):
                yield finding
            yield await _clock(account, connection)
            for finding in _certificate(account, connection.certificate_not_after):
                yield finding
            await connection.logout()
    except AuthRefused as error:
        reason = "access_token_refused" if tokens else "auth_refused"
        yield Finding(account.name, "bad", _trouble(f"{where}: log-in", reason, str(error)))
    except NoToken as error:
        yield Finding(account.name, "bad", _trouble(f"{where}: log-in", error.reason, error.detail))
    except (ImapError, Unreachable) as error:
        yield Finding(account.name, "bad", _trouble(where, getattr(error, "reason", ""), str(error)))


def _abilities(account: Account, connection: Connection) -> list[Finding]:
    idle = (
        Finding(account.name, "ok", "IDLE: yes")
        if connection.can_idle
        else Finding(
            account.name, "warning", "IDLE: no; the mailbox is asked every 30 s, and densely while mail is due"
        )
    )
    uidplus = (
        Finding(account.name, "ok", "UIDPLUS: yes")
        if connection.can_expunge
        else Finding(
            account.name, "warning", "UIDPLUS: no; test mails are marked as read and stay: remove them by a rule"
        )
    )
    return [idle, uidplus]


async def _folders(account: Account, connection: Connection) -> AsyncIterator[Finding]:
    listed = await connection.list_folders()
    watched = choose(listed, account.folders)
    for missing in {name for name in account.folders if name.upper() != "INBOX"} - {folder.name for folder in watched}:
        names = ", ".join(sorted(folder.name for folder in listed))
        yield Finding(account.name, "bad", f"folders: there is no {missing!r}; there are {names}")
    for folder in watched:
        selected = await connection.select(folder.raw)
        read_only = "; read-only: test mails cannot be removed" if selected.read_only else ""
        level: Literal["ok", "warning"] = "warning" if read_only else "ok"
        yield Finding(
            account.name, level, f"watches {folder.name} ({folder.placement}, {selected.exists} mails){read_only}"
        )
    if not any(folder.placement == "junk" for folder in watched):
        yield Finding(account.name, "warning", 'Junk: no such folder found; if there is one, name it: folders = ["…"]')


async def _clock(account: Account, connection: Connection) -> Finding:
    """Store a mail, read its INTERNALDATE (whole seconds), remove it."""
    if not connection.can_expunge:
        return Finding(account.name, "ok", "clock: not looked at (it takes a stored mail, and UIDPLUS to remove it)")
    selected = await connection.select("INBOX")
    nonce = secrets.token_hex(8)
    now = format_datetime(datetime.now(UTC))
    mail = (
        f"Date: {now}\r\nFrom: {account.address}\r\nSubject: mailprobe looks at the clock\r\n"
        f"X-Mailprobe-Check: {nonce}\r\n\r\nmailprobe check removes this mail at once.\r\n"
    ).encode()
    before = time.time()
    uidvalidity, uid = await connection.append("INBOX", mail, ["\\Seen"])
    after = time.time()
    stored = [m for m in await connection.fetch(str(uid), "BODY.PEEK[HEADER]") if nonce.encode() in m.content]
    if uidvalidity != selected.uidvalidity or not stored:
        return Finding(
            account.name, "warning", "clock: the mail stored to see it was not found again; it may be in INBOX"
        )
    await connection.mark([uid], ["\\Deleted"])
    await connection.expunge([uid])
    stamp = stored[0].internal_date
    if stamp is None:
        return Finding(account.name, "warning", "clock: the server's stamp cannot be read")
    low, high = stamp - after, stamp + 1 - before
    off = max(low, -high, 0.0)
    if off > _CLOCK_OFF:
        ahead = "ahead" if low > 0 else "behind"
        return Finding(
            account.name, "warning", f"clock: the mail server's is {duration(off)} {ahead} of ours (or ours is off)"
        )
    return Finding(account.name, "ok", f"clock: the mail server's minus ours is between {low:+.1f} and {high:+.1f} s")


def _certificate(account: Account, not_after: float | None) -> list[Finding]:
    if not_after is None:
        return [Finding(account.name, "warning", 'no TLS: password and mails go in clear (tls = "none")')]
    day = datetime.fromtimestamp(not_after, UTC).date().isoformat()
    left = not_after - time.time()
    if left < _SOON:
        return [Finding(account.name, "warning", f"certificate ends on {day}, in {duration(left)}: time to renew it")]
    return [Finding(account.name, "ok", f"certificate until {day}")]


def _trouble(where: str, reason: str, detail: str) -> str:
    mend = _MENDS.get(reason)
    return f"{where}: {reason.replace('_', ' ')} ({detail})" + (f"; {mend}" if mend else "")
