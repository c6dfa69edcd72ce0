"""One IMAP connection that cannot hang, lose EXISTS, or delete wrongly: the commands; the wire is imap_wire.py's.

Rules:
1. Every await ends within its time limit, by an answer or in an ImapError (see imap_wire.py).
2. Nothing is deleted but by UID EXPUNGE, under the UIDVALIDITY that SELECT told; CLOSE and EXPUNGE are never sent.

    ImapError
    ├── Lost               the connection is gone or was given up; .reason is a word fit for a metric's label
    └── Refused            tagged NO or BAD, or a command that this server cannot be asked
        └── AuthRefused    … to LOGIN or AUTHENTICATE
(net.Unreachable, raised by `open` alone: the connection never came to be, or TLS was not to be had.)
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from types import TracebackType

from probe.core.events import Instant
from probe.core.settings import Secret, Server
from probe.mail import imap_syntax as syntax
from probe.mail import net, oauth
from probe.mail.imap_syntax import Fetched, Folder
from probe.mail.imap_wire import AuthRefused, ImapError, Lost, LostReason, Refused, Wire

__all__ = ["AuthRefused", "Connection", "Fetched", "Folder", "ImapError", "Lost", "LostReason", "Refused", "Selected"]

_LOGOUT_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Selected:
    """What SELECT told."""

    folder: str
    uidvalidity: int
    uidnext: int | None
    exists: int
    read_only: bool


class Connection:
    """One connection to one mailbox server; see the module's rules. Made by `open`; use it as a context manager.

    `capabilities` are upper-cased; `last_contact` is the instant of the last byte received; `certificate_not_after` is
    Unix time; `rung` is the instant of the first EXISTS that told of more mails than were known, until it is taken.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.certificate_not_after: float | None = None

    @classmethod
    async def open(
        cls,
        server: Server,
        *,
        clock: Callable[[], Instant],
        timeout: float = 30.0,
    ) -> Connection:
        """Resolve, connect, TLS, greeting, capabilities: all within `timeout` seconds. Raises net.Unreachable, Lost,
        Refused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        addresses = await net.resolve(server.host, server.port, timeout)
        sock = await net.connect(addresses, max(0.0, deadline - loop.time()))
        wire = Wire(clock, timeout)
        self = cls(wire)
        try:
            async with asyncio.timeout_at(deadline):
                await self._begin(server, sock)
        except BaseException as error:
            if wire.transport is None:
                sock.close()
            shaking = wire.transport is None or wire.deaf
            wire.lose("timeout" if isinstance(error, TimeoutError) else "closed")
            if shaking and isinstance(error, OSError):
                raise net.Unreachable("tls", net.tls_reason(error), f"{server.host}: {error}") from None
            if isinstance(error, TimeoutError):
                raise Lost("timeout", "no greeting, or no capabilities") from None
            raise
        return self

    async def _begin(self, server: Server, sock: socket.socket) -> None:
        wire, greeting = self._wire, self._wire.pending_sync_command
        assert greeting is not None
        context = None if server.tls == "none" else net.tls_context(server.ca_file)
        if server.tls == "implicit":
            await wire.loop.create_connection(lambda: wire, sock=sock, ssl=context, server_hostname=server.host)
        else:
            await wire.loop.create_connection(lambda: wire, sock=sock)
        await greeting.wait()
        await self._refresh()
        if server.tls == "starttls":
            if not self.has("STARTTLS"):
                raise net.Unreachable("tls", "starttls_not_offered", f"{server.host}: no STARTTLS")
            try:
                await wire.run(b"STARTTLS", "STARTTLS")
            except Refused as error:
                raise net.Unreachable("tls", "starttls_refused", f"{server.host}: {error}") from None
            assert wire.transport is not None
            assert context is not None
            transport = await wire.loop.start_tls(wire.transport, wire, context, server_hostname=server.host)
            if transport is None or wire.lost is not None:
                raise ConnectionResetError("the server closed the connection during the handshake")
            wire.transport, wire.framer, wire.deaf = transport, syntax.Framer(), False
            await self._refresh()
        certificate = wire.transport.get_extra_info("peercert") if wire.transport is not None else None
        if certificate:
            self.certificate_not_after = float(ssl.cert_time_to_seconds(certificate["notAfter"]))

    async def _refresh(self) -> None:
        if self._wire.known is None:
            await self._wire.run(b"CAPABILITY", "CAPABILITY")

    @property
    def capabilities(self) -> frozenset[str]:
        return self._wire.known or frozenset()

    def has(self, name: str) -> bool:
        """Whether the server has this capability."""
        return name.upper() in self.capabilities

    @property
    def last_contact(self) -> Instant:
        return self._wire.last_contact

    @property
    def expunged(self) -> int:
        """How many mails went from the selected folder in this session, by us or by others."""
        return self._wire.expunged

    @property
    def rung(self) -> Instant | None:
        return self._wire.rung

    def take_rings(self) -> list[tuple[int, Instant]]:
        """Every growth since the last call, oldest first: how many mails the server had told of by then, and when.
        From now on the next growth rings anew."""
        wire = self._wire
        rings, wire.rings, wire.rung, wire.grown = wire.rings, [], None, 0
        return rings

    async def login(self, username: str, secret: Secret) -> None:
        """Log in by exactly one mechanism, once (a second try would count as a second wrong password).

        LOGIN; AUTHENTICATE PLAIN (RFC 4616) where LOGIN cannot carry the characters or is switched off under TLS and
        PLAIN is offered. Raises AuthRefused, Lost.
        """
        user, password = username.encode(), secret.reveal().encode()
        usual, plain = syntax.plain_ascii(user + password), self.has("AUTH=PLAIN")
        disabled = self.has("LOGINDISABLED")
        if disabled and not (plain and self.certificate_not_after is not None):
            raise AuthRefused("LOGIN", "LOGINDISABLED", "no password is taken on this connection; none was sent")
        if b"\0" in user + password:
            raise AuthRefused("LOGIN", "", "a NUL in user name or password; neither was sent")
        token = base64.b64encode(b"\0" + user + b"\0" + password)
        if plain and (disabled or not usual):
            name, replies = "AUTHENTICATE", self._sasl(b"PLAIN", token)
        else:
            name, replies = "LOGIN", [b"LOGIN"]
            for text in (user, password):  # 8-bit and control characters fit only into literals
                if syntax.plain_ascii(text):
                    replies[-1] += b" " + syntax.quote(text)
                else:
                    replies[-1] += b" {%d}" % len(text)
                    replies.append(text)
        secrets = token.decode(), syntax.quote(password).decode()[1:-1], secret.reveal()
        await self._log_in(name, replies, secrets)

    async def show_token(self, username: str, token: Secret) -> None:
        """Log in by XOAUTH2 with this access token, once. Raises AuthRefused, with the server's reason, and Lost."""
        if not self.has("AUTH=XOAUTH2"):
            raise AuthRefused("AUTHENTICATE", "", "XOAUTH2 is not offered; no token was sent")
        message = base64.b64encode(oauth.xoauth2(username, token.reveal()))
        await self._log_in("AUTHENTICATE", self._sasl(b"XOAUTH2", message), (message.decode(), token.reveal()))

    def _sasl(self, mechanism: bytes, message: bytes) -> list[bytes]:
        """What is to be sent, turn by turn: one turn with SASL-IR (RFC 4959), else two."""
        line = b"AUTHENTICATE " + mechanism
        return [line + b" " + message] if self.has("SASL-IR") else [line, message]

    async def _log_in(self, name: str, replies: list[bytes], secrets: Iterable[str]) -> None:
        wire = self._wire
        wire.known, wire.challenge = None, b""
        wire.secrets = tuple(filter(None, secrets))
        try:
            await wire.run(replies[0], name, replies=replies[1:])
        except Refused as error:
            why = oauth.why_refused(wire.challenge)
            text = f"{error.text} (status {wire.clean(why.encode())})" if why else error.text
            raise AuthRefused(error.command, error.code, text) from None
        finally:
            wire.secrets = ()
        await self._refresh()

    async def select(self, folder_raw: str) -> Selected:
        """SELECT. Rings of the time before are dropped: look into the folder after this. Raises Refused, Lost."""
        name = syntax.quote(folder_raw.encode("utf-8", "surrogateescape"))
        _, text = await self._wire.run(b"SELECT " + name, "SELECT")
        facts, code = self._wire.facts, syntax.status(text)[0]
        if "UIDVALIDITY" not in facts:
            raise Refused("SELECT", "", "the folder has no UIDVALIDITY, so its UIDs mean nothing (RFC 3501 §2.3.1.1)")
        return Selected(
            folder_raw, facts["UIDVALIDITY"], facts.get("UIDNEXT"), facts["EXISTS"], read_only=code == "READ-ONLY"
        )

    async def list_folders(self) -> list[Folder]:
        """All folders, with their special uses (RFC 6154) where the server tells them."""
        line = b'LIST "" "*"'
        if self.has("SPECIAL-USE") and self.has("LIST-EXTENDED"):
            line += b" RETURN (SPECIAL-USE)"
        lines, _ = await self._wire.run(line, "LIST", b"LIST")
        return [folder for parts in lines if (folder := syntax.parse_list(parts))]

    async def noop(self) -> None:
        """Ask for news: a grown mailbox rings."""
        await self._wire.run(b"NOOP", "NOOP")

    async def fetch(self, uids: str, item: str) -> list[Fetched]:
        """UID FETCH of one content item, such as BODY.PEEK[HEADER], with INTERNALDATE.

        "n:*" gives nothing below n, although a server answers it with its last mail whatever that one's UID is.
        """
        line = f"UID FETCH {uids} (UID INTERNALDATE {item})"
        lines, _ = await self._wire.run(line.encode(), "UID FETCH", b"FETCH")
        lowest = syntax.number(uids[:-2].encode()) or 0 if uids.endswith(":*") else 0
        return [mail for parts in lines if (mail := syntax.parse_fetch(parts)) and mail.uid >= lowest]

    async def search_since(self, day: date) -> list[int]:
        """UIDs of the mails with an INTERNALDATE of this day or later (the server's days), sorted."""
        line = f"UID SEARCH SINCE {syntax.search_day(day)}"
        lines, _ = await self._wire.run(line.encode(), "UID SEARCH", b"SEARCH")
        return sorted({uid for parts in lines for uid in syntax.parse_search(parts)})

    async def search_after(self, uid: int) -> list[int]:
        """UIDs above this one, sorted."""
        lines, _ = await self._wire.run(f"UID SEARCH UID {uid + 1}:*".encode(), "UID SEARCH", b"SEARCH")
        return sorted({found for parts in lines for found in syntax.parse_search(parts) if found > uid})

    async def uid_of(self, sequence: int) -> int | None:
        """The UID of the mail with this sequence number."""
        lines, _ = await self._wire.run(f"UID SEARCH {sequence}".encode(), "UID SEARCH", b"SEARCH")
        return next((uid for parts in lines for uid in syntax.parse_search(parts)), None)

    async def append(self, folder_raw: str, mail: bytes, flags: Sequence[str] = ()) -> tuple[int, int]:
        """Store a mail; its UIDVALIDITY and UID (APPENDUID, RFC 4315 §3). Raises Refused, also without that answer."""
        name = syntax.quote(folder_raw.encode("utf-8", "surrogateescape"))
        line = b"APPEND %s (%s) {%d}" % (name, " ".join(flags).encode(), len(mail))
        _, text = await self._wire.run(line, "APPEND", replies=[mail])
        code, argument, _ = syntax.status(text)
        numbers = [syntax.number(word) for word in argument.split()]
        if code != "APPENDUID" or len(numbers) != 2 or not numbers[0] or not numbers[1]:
            raise Refused("APPEND", "", "the server does not tell the UID (no UIDPLUS); the mail is stored")
        return numbers[0], numbers[1]

    async def mark(self, uids: Sequence[int], flags: Sequence[str]) -> set[int]:
        """Add flags to these mails; those of which the server says that it did (they may be more, RFC 9051 §6.4.6)."""
        marked = set()
        for chunk in syntax.uid_sets(uids):
            line = f"UID STORE {chunk} +FLAGS ({' '.join(flags)})"
            lines, _ = await self._wire.run(line.encode(), "UID STORE", b"FETCH")
            marked |= {uid for parts in lines if (uid := syntax.parse_uid(parts)) is not None}
        return marked

    async def existing(self, uids: Sequence[int]) -> set[int]:
        """Those of these mails that the folder holds."""
        found = set()
        for chunk in syntax.uid_sets(uids):
            lines, _ = await self._wire.run(f"UID FETCH {chunk} (UID)".encode(), "UID FETCH", b"FETCH")
            found |= {uid for parts in lines if (uid := syntax.parse_uid(parts)) is not None}
        return found

    async def expunge(self, uids: Sequence[int]) -> None:
        """Remove those of these mails that are marked \\Deleted, and no others (UIDPLUS, RFC 4315); else Refused."""
        if not self.can_expunge:
            raise Refused("UID EXPUNGE", "", "the server has no UIDPLUS; a plain EXPUNGE would remove other mails, too")
        for chunk in syntax.uid_sets(uids):
            await self._wire.run(f"UID EXPUNGE {chunk}".encode(), "UID EXPUNGE")

    @property
    def can_idle(self) -> bool:
        """IDLE, which IMAP4rev2 includes (RFC 9051 appendix E)."""
        return self.has("IDLE") or self.has("IMAP4REV2")

    @property
    def can_expunge(self) -> bool:
        """UIDPLUS, which IMAP4rev2 includes: mails can be removed without taking others' along."""
        return self.has("UIDPLUS") or self.has("IMAP4REV2")

    async def idle(self, timeout: float, wake: asyncio.Event) -> bool:
        """IDLE (RFC 2177) until a ring, `wake`, or `timeout` seconds; DONE was answered when this returns.

        True when a ring ended it; one that comes with the answer to DONE was asked for.

        Returns at once while a ring is not taken. Raises Refused (also if IDLE is not offered), Lost.
        """
        if not self.can_idle:
            raise Refused("IDLE", "", "not offered")
        return await self._wire.idle(timeout, wake)

    async def wait(self, timeout: float, wake: asyncio.Event) -> None:
        """No command: until an unasked-for ring, `wake`, or `timeout` seconds. Raises Lost as soon as that happens."""
        await self._wire.nap(timeout, wake)

    async def logout(self) -> None:
        """Say good-bye, for two seconds at most, and close. Raises nothing."""
        self._wire.leaving = True
        try:
            async with asyncio.timeout(_LOGOUT_TIMEOUT):
                await self._wire.run(b"LOGOUT", "LOGOUT")
        except (ImapError, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now."""
        self._wire.lose("closed", "closed by us")

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
