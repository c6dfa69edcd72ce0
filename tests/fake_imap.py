"""A small honest IMAP server on 127.0.0.1, and the ways in which a test can make it dishonest.

Rule: left alone it keeps the protocol (per-session views, EXPUNGE and EXISTS only where RFC 3501 §7.4.1 allows them),
so that whatever a test sees go wrong was scripted by `handler`, or is our own fault. No sleeps: await `received`.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import contextlib
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from probe.clock import now
from probe.core.events import Instant
from probe.core.settings import Server
from probe.mail.imap_syntax import decode_utf7, search_day

CAPABILITIES = b"IMAP4rev1 IDLE UIDPLUS SPECIAL-USE LIST-EXTENDED AUTH=PLAIN SASL-IR"
XOAUTH2_REFUSAL = b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'
Handler = Callable[[bytes, bytes, bytes, asyncio.StreamWriter], Awaitable[bool]]


@dataclass(eq=False)
class Mail:
    uid: int
    raw: bytes
    stored: float
    flags: set[bytes] = field(default_factory=set)


@dataclass
class Folder:
    uidvalidity: int = 1
    uidnext: int = 1
    attributes: bytes = b"\\HasNoChildren"
    delimiter: bytes = b'"/"'
    mails: dict[int, Mail] = field(default_factory=dict)  # by UID, ascending


class Session:
    """One connection: what the client knows (`view`, its UIDs by sequence number) and what it is doing."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.folder: Folder | None = None
        self.view: list[int] = []
        self.replaced: list[int] = []  # UIDs in view under which another mail lies now
        self.idle_tag = b""
        self.command = b""  # the last one

    def send(self, *lines: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(b"".join(line + b"\r\n" for line in lines))

    def news(self) -> None:
        """EXPUNGE for what is gone, EXISTS for what came."""
        if self.folder is None:
            return
        for index in reversed(range(len(self.view))):
            if self.view[index] not in self.folder.mails or self.view[index] in self.replaced:
                del self.view[index]
                self.send(b"* %d EXPUNGE" % (index + 1))
        last = self.view[-1] if self.view else 0
        fresh = [uid for uid in self.folder.mails if uid > last or uid in self.replaced]
        self.replaced.clear()
        if fresh:
            self.view = sorted({*self.view, *fresh})
            self.send(b"* %d EXISTS" % len(self.view))


class FakeImap:
    """`async with FakeImap() as fake`, then `Connection.open(fake.server(), …)`.

    What clients do to mails is in `harm`, in order: the flag that was set, or b"expunged"; what
    a test does by `remove`, `reuse`, `recreate` is not, for that is others' doing.

    handler(tag, command, args, writer) is asked first for every line and returns True for what it has dealt with; DONE
    and other tagless lines come with the line as the command and an empty tag. `push`, `close` and `reset` act on the
    last session.

    Lawful laziness: `idle_lag` is how long IDLE keeps its news to itself, in seconds (None: for good); `tellers` are
    the commands with whose answer news are told, such as {b"NOOP"} (None: all); `uidnext` False leaves UIDNEXT out of
    SELECT's answer.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        capabilities: bytes = CAPABILITIES,
        greeting: bytes = b"* OK fake ready\r\n",
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        users: dict[str, str] | None = None,
        tokens: dict[str, str] | None = None,
    ) -> None:
        self.handler, self.capabilities, self.greeting = handler, capabilities, greeting
        self.tls, self.starttls, self.users = tls, starttls, users
        self.tokens = tokens or {}  # user → the access token that XOAUTH2 takes
        self.folders = {"INBOX": Folder(), "Junk": Folder(attributes=b"\\HasNoChildren \\Junk")}
        self.lines: list[bytes] = []  # every line received, without CRLF
        self.stamps: list[Instant] = []  # when each of them had come
        self.harm: list[tuple[bytes, Mail]] = []
        self.before_done: Callable[[Session], None] = lambda session: (
            None
        )  # the command has taken effect, OK is to come
        self.idle_lag: float | None = 0.0
        self.tellers: frozenset[bytes] | None = None
        self.uidnext = True
        self.sessions: list[Session] = []
        self.port = 0
        self._news = asyncio.Condition()

    def server(self, ca_file: Path | None = None, host: str = "127.0.0.1") -> Server:
        return Server(host, self.port, "implicit" if self.tls else "starttls" if self.starttls else "none", ca_file)

    async def __aenter__(self) -> FakeImap:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, limit=1 << 20)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self.sessions:
            # Python before 3.11.4 cannot abort a TLS transport that is closing already.
            with contextlib.suppress(AttributeError):
                session.writer.transport.abort()
        await asyncio.sleep(0)

    # ------------------------------------------------------------ for tests

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    def push(self, data: bytes) -> None:
        self.session.writer.write(data)

    def close(self) -> None:
        self.session.writer.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.session.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.session.writer.transport.abort()

    def append(self, raw: bytes, folder: str = "INBOX", stored: float | None = None) -> int:
        """A mail arrives; idlers are told at once. Its UID."""
        return self.append_all([raw], folder, stored)[0]

    def append_all(self, raws: Iterable[bytes], folder: str = "INBOX", stored: float | None = None) -> list[int]:
        """These mails arrive at once. Their UIDs."""
        box, uids = self.folders[folder], []
        for raw in raws:
            uid, box.uidnext = box.uidnext, box.uidnext + 1
            box.mails[uid] = Mail(uid, raw, datetime.now(UTC).timestamp() if stored is None else stored)
            uids.append(uid)
        self.tell_idlers()
        return uids

    def remove(self, uid: int, folder: str = "INBOX") -> None:
        """Another client expunges it."""
        del self.folders[folder].mails[uid]
        self.tell_idlers()

    def reuse(self, uid: int, raw: bytes, folder: str = "INBOX") -> Mail:
        """Against RFC 9051 §2.3.1.1: a mail goes, and another one comes under its UID."""
        box = self.folders[folder]
        box.mails[uid] = mail = Mail(uid, raw, datetime.now(UTC).timestamp())
        for session in self.sessions:
            if session.folder is box and uid in session.view:
                session.replaced.append(uid)
        self.tell_idlers()
        return mail

    def recreate(self, folder: str, *, tell: bool) -> None:
        """Somebody restores the folder: the same mails the other way round, from UID 1 on, under another UIDVALIDITY.

        tell: sessions are told and go on in the new folder; else they go on in the old one, which is a ghost.
        """
        old = self.folders[folder]
        new = Folder(old.uidvalidity + 1, len(old.mails) + 1, old.attributes, old.delimiter)
        mails = enumerate(reversed(old.mails.values()), 1)
        new.mails = {uid: Mail(uid, mail.raw, mail.stored, set(mail.flags)) for uid, mail in mails}
        self.folders[folder] = new
        for session in self.sessions if tell else ():
            if session.folder is old:
                session.folder, session.view = new, list(new.mails)
                session.send(b"* OK [UIDVALIDITY %d] restored" % new.uidvalidity)

    def tell_idlers(self) -> None:
        for session in self.sessions:
            if session.idle_tag and self.idle_lag == 0.0:
                session.news()
            elif session.idle_tag and self.idle_lag is not None:
                asyncio.get_running_loop().call_later(self.idle_lag, self._tell_late, session)

    def _tell_late(self, session: Session) -> None:
        if session.idle_tag:
            session.news()

    def inbox(self, folder: str = "INBOX") -> Session:
        """The last session that selected this folder."""
        return next(session for session in reversed(self.sessions) if session.folder is self.folders[folder])

    async def received(self, part: bytes, times: int = 1) -> None:
        """Until so many lines with this part in them have come (since the start)."""
        async with self._news:
            await self._news.wait_for(lambda: sum(part in line for line in self.lines) >= times)

    # ------------------------------------------------------------ the server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(writer)
        self.sessions.append(session)
        try:
            writer.write(self.greeting)
            while line := await self._line(reader, session):
                await self._obey(line, reader, session)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled by __aexit__ alone; asyncio's streams would report it as a failure
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _line(self, reader: asyncio.StreamReader, session: Session) -> bytes:
        line = await reader.readline()
        while found := re.search(rb"\{(\d+)\}\r\n\Z", line):
            session.send(b"+ go on")
            line = line[: found.start()] + await reader.readexactly(int(found[1])) + await reader.readline()
        if line:
            async with self._news:
                self.lines.append(line.removesuffix(b"\r\n"))
                self.stamps.append(now())
                self._news.notify_all()
        return line

    async def _obey(self, line: bytes, reader: asyncio.StreamReader, session: Session) -> None:
        tag, _, rest = line.removesuffix(b"\r\n").partition(b" ")
        command, _, args = rest.partition(b" ")
        command = command.upper()
        if not command:
            tag, command = b"", tag
        if command == b"IDLE":
            session.idle_tag = tag  # set before the handler, which may want to answer DONE itself
        if self.handler is not None and await self.handler(tag, command, args, session.writer):
            return
        if command == b"UID":
            command, _, args = args.partition(b" ")
            command = b"UID_" + command.upper()
        act = getattr(self, "_on_" + command.decode("ascii", "replace").lower(), None)
        session.command = command
        if act is None:
            session.send((tag or b"*") + b" BAD what?")
        elif command == b"UID_FETCH":
            await self._on_uid_fetch(tag, args, session)
        elif command in (b"AUTHENTICATE", b"STARTTLS"):
            await act(tag, args, reader, session)
        else:
            act(tag, args, session)

    def _done(self, tag: bytes, session: Session, text: bytes = b"done") -> None:
        self.before_done(session)
        if self.tellers is None or session.command in self.tellers:
            session.news()
        session.send(tag + b" OK " + text)

    def _on_capability(self, tag: bytes, args: bytes, session: Session) -> None:
        capabilities = self.capabilities + (b" STARTTLS" if self.starttls else b"")
        session.send(b"* CAPABILITY " + capabilities, tag + b" OK done")

    def _on_noop(self, tag: bytes, args: bytes, session: Session) -> None:
        self._done(tag, session)

    async def _on_starttls(self, tag: bytes, args: bytes, reader: asyncio.StreamReader, session: Session) -> None:
        session.send(tag + b" OK begin")
        assert self.starttls is not None
        await session.writer.start_tls(self.starttls)

    def _log_in(self, tag: bytes, user: bytes, password: bytes, session: Session) -> None:
        if self.users is None or self.users.get(user.decode()) == password.decode():
            session.send(tag + b" OK logged in")
        else:
            session.send(tag + b" NO [AUTHENTICATIONFAILED] wrong user or password")

    def _on_login(self, tag: bytes, args: bytes, session: Session) -> None:
        quoted = re.fullmatch(rb'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"', args)
        user, password = quoted.groups() if quoted else args.split(b" ", 1)
        self._log_in(tag, *(re.sub(rb"\\(.)", rb"\1", word) for word in (user, password)), session=session)

    async def _on_authenticate(self, tag: bytes, args: bytes, reader: asyncio.StreamReader, session: Session) -> None:
        mechanism, _, token = args.partition(b" ")
        if not token:
            session.send(b"+ ")
            token = (await self._line(reader, session)).strip()
        if mechanism == b"XOAUTH2":
            await self._on_xoauth2(tag, base64.b64decode(token), reader, session)
            return
        _, user, password = base64.b64decode(token).split(b"\0")
        self._log_in(tag, user, password, session)

    async def _on_xoauth2(self, tag: bytes, said: bytes, reader: asyncio.StreamReader, session: Session) -> None:
        """As Gmail does it: a refusal is explained, and ends only when the client has answered."""
        if said in [b"user=%s\1auth=Bearer %s\1\1" % (u.encode(), t.encode()) for u, t in self.tokens.items()]:
            session.send(tag + b" OK logged in")
            return
        session.send(b"+ " + base64.b64encode(XOAUTH2_REFUSAL))
        assert await self._line(reader, session) == b"\r\n"
        session.send(tag + b" NO [AUTHENTICATIONFAILED] Invalid credentials")

    def _on_list(self, tag: bytes, args: bytes, session: Session) -> None:
        for name, folder in self.folders.items():
            raw = encode_utf7(name).encode()
            session.send(b'* LIST (%s) %s "%s"' % (folder.attributes, folder.delimiter, raw))
        self._done(tag, session)

    def _on_select(self, tag: bytes, args: bytes, session: Session) -> None:
        folder = self.folders.get(decode_utf7(args.strip(b'"').decode()))
        session.folder, session.view = folder, list(folder.mails) if folder else []
        if folder is None:
            session.send(tag + b" NO [NONEXISTENT] no such folder")
            return
        session.send(b"* FLAGS (\\Seen \\Deleted)", b"* %d EXISTS" % len(session.view), b"* 0 RECENT")
        session.send(b"* OK [UIDVALIDITY %d] valid" % folder.uidvalidity)
        if self.uidnext:
            session.send(b"* OK [UIDNEXT %d] next" % folder.uidnext)
        session.send(tag + b" OK [READ-WRITE] selected")

    def _on_idle(self, tag: bytes, args: bytes, session: Session) -> None:
        session.send(b"+ idling")
        if self.idle_lag == 0.0 or (self.tellers is not None and b"IDLE" in self.tellers):
            session.news()
        else:
            self.tell_idlers()

    def _on_done(self, tag: bytes, args: bytes, session: Session) -> None:
        tag, session.idle_tag = session.idle_tag, b""
        self._done(tag, session)

    def _on_logout(self, tag: bytes, args: bytes, session: Session) -> None:
        session.send(b"* BYE see you", tag + b" OK done")
        session.writer.close()

    def _on_uid_search(self, tag: bytes, args: bytes, session: Session) -> None:
        if args.isdigit():  # a sequence number
            session.send(b" ".join([b"* SEARCH", *(b"%d" % uid for uid in session.view[int(args) - 1 : int(args)])]))
            self._done(tag, session)
            return
        if args.startswith(b"UID "):
            found = [b"%d" % mail.uid for _, mail in self._chosen(args.removeprefix(b"UID "), session)]
            session.send(b" ".join([b"* SEARCH", *found]))
            self._done(tag, session)
            return
        day = datetime.strptime(args.decode().removeprefix("SINCE "), "%d-%b-%Y").replace(tzinfo=UTC).timestamp()
        mails = session.folder.mails.values() if session.folder else ()
        found = [b"%d" % mail.uid for mail in mails if mail.stored >= day and mail.uid in session.view]
        session.send(b" ".join([b"* SEARCH", *found]))
        self._done(tag, session)

    def _chosen(self, uids: bytes, session: Session) -> Iterator[tuple[int, Mail]]:
        assert session.folder is not None
        view = session.view
        last = view[-1] if view else 0
        wanted: set[int] = set()
        for word in uids.split(b","):
            ends = [last if end == b"*" else int(end) for end in word.split(b":")]  # so that 9:* holds the last one
            wanted.update(range(bisect.bisect_left(view, min(ends)), bisect.bisect_right(view, max(ends))))
        for index in sorted(wanted):
            if view[index] in session.folder.mails:
                yield index + 1, session.folder.mails[view[index]]

    async def _on_uid_fetch(self, tag: bytes, args: bytes, session: Session) -> None:
        uids, _, items = args.partition(b" ")
        for count, (index, mail) in enumerate(list(self._chosen(uids, session)), 1):
            if count % 20 == 0:
                await session.writer.drain()
                await asyncio.sleep(0)  # who shares our loop is not kept waiting
            words = [b"UID %d" % mail.uid]
            if b"INTERNALDATE" in items:
                words.append(b'INTERNALDATE "%s"' % date_time(mail.stored).encode())
            if b"FLAGS" in items:
                words.append(b"FLAGS (%s)" % b" ".join(sorted(mail.flags)))
            if found := re.search(rb"BODY(?:\.PEEK)?(\[[^\]]*\])(?:<0\.(\d+)>)?", items):
                head, gap, _ = mail.raw.partition(b"\r\n\r\n")
                content = mail.raw if found[1] == b"[]" else head + gap
                part = found[1]
                if found[2]:
                    content, part = content[: int(found[2])], part + b"<0>"
                words.append(b"BODY%s {%d}\r\n%s" % (part, len(content), content))
            session.send(b"* %d FETCH (%s)" % (index, b" ".join(words)))
        self._done(tag, session)

    def _on_uid_store(self, tag: bytes, args: bytes, session: Session) -> None:
        uids, action, flags = args.split(b" ", 2)
        for index, mail in self._chosen(uids, session):
            mail.flags |= set(flags.strip(b"()").split())
            self.harm += [(flag, mail) for flag in flags.strip(b"()").split()]
            if not action.upper().endswith(b".SILENT"):
                session.send(b"* %d FETCH (UID %d FLAGS (%s))" % (index, mail.uid, b" ".join(sorted(mail.flags))))
        self._done(tag, session)

    def _on_uid_expunge(self, tag: bytes, args: bytes, session: Session) -> None:
        assert session.folder is not None
        for mail in [mail for _, mail in self._chosen(args, session) if b"\\Deleted" in mail.flags]:
            self.harm.append((b"expunged", mail))
            del session.folder.mails[mail.uid]
        self._done(tag, session)
        self.tell_idlers()

    def _on_expunge(self, tag: bytes, args: bytes, session: Session) -> None:
        self._on_uid_expunge(tag, b"1:*", session)


def certificate(directory: Path, name: str = "127.0.0.1", days: int = 30) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a fresh self-signed certificate for this name, and the file for a client to trust."""
    directory.mkdir(parents=True, exist_ok=True)
    cert, key = directory / "cert.pem", directory / "key.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", cert, "-days", str(days), "-subj", "/CN=fake"),
            *("-addext", f"subjectAltName={kind}:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


# -- what servers write ----------------------------------------------------------------------------------------------

_UNSAFE = re.compile(r"&|[^\x20-\x7e]+")


def date_time(seconds: float) -> str:
    """date-time of RFC 3501 §9 in UTC, without quotes: the inverse of internal_date."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at.day:2}{search_day(at)[2:]} {at:%H:%M:%S} +0000"


def encode_utf7(name: str) -> str:
    """A folder's name in modified UTF-7, all ASCII."""

    def shifted(found: re.Match[str]) -> str:
        if found[0] == "&":
            return "&-"
        body = base64.b64encode(found[0].encode("utf-16-be", "surrogatepass")).decode()
        return "&" + body.rstrip("=").replace("/", ",") + "-"

    return _UNSAFE.sub(shifted, name)
