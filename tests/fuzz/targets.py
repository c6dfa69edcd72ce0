"""What is fuzzed: one table for the suite (tests/test_fuzz.py) and for `make fuzz` (tests/fuzz/__main__.py).

Rule: a check takes any bytes, suppresses the errors that its parser documents and no others, and asserts what the
parser promises: no verdict without a verified token, no control characters and lone surrogates where none may be, the
same result however the stream was cut. What has once broken a parser stands among its seeds.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import math
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from unittest.mock import patch

from rich.console import Console

from probe.core.authres import METHODS, Learner, Own, read
from probe.core.dsn import looks_like_notice, read_notice
from probe.core.events import Instant
from probe.core.explain import explain
from probe.core.headers import fields, parse_head, values
from probe.core.mailfile import headers
from probe.core.message import HEADER, Mail, Recognised, compose, recognise, worth_reading
from probe.core.mime import parts as mime_parts
from probe.core.received import as_json, hops, parse
from probe.core.received import stamp as finer_stamp
from probe.core.reply import one_line, parse_reply, queue_id
from probe.core.token import (
    Token,
    candidates,
    mint,
    mint_envelope_id,
    verify,
    verify_envelope_id,
    without_tokens,
)
from probe.mail import folders, imap_syntax, oauth
from probe.mail.imap_syntax import Framer, Malformed, Parts
from probe.mail.imap_wire import Lost, Refused, Wire
from probe.terminal.traced import view

from ..fake_imap import encode_utf7
from ..received_corpus import records

CONSOLE = Console(width=80)
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TOKEN = Token("0123456789abcdef", "gmx-to-own", 1_700_000_000.0, 1_700_000_000.75)
TEXT, ENVELOPE_ID = mint(KEY, TOKEN), mint_envelope_id(KEY, TOKEN.probe)
OURS, RECIPIENT = "probe@example.de", "probe@example.org"
SENDERS = frozenset({OURS, RECIPIENT})
RAW = compose(KEY, TOKEN, Mail(OURS, RECIPIENT))
DATA = Path(__file__).parents[1] / "data" / "dsn"


@dataclass(frozen=True)
class Target:
    """`words`: what the grammar is made of. `frames`: where a flood of one word is poured in (at "@"); `flooded`: what
    reads the flood, where the check itself would take too long."""

    check: Callable[[bytes], object]
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    frames: Sequence[bytes] = (b"@",)
    flooded: Callable[[bytes], object] | None = None


def harmless(text: str, limit: int | None = None) -> bool:
    """Fit for one line of a terminal, log or label."""
    text.encode()  # lone surrogates
    return text.isprintable() and (limit is None or len(text) <= limit)


# -- IMAP ----------------------------------------------------------------------------------------------------------


def cut(data: bytes) -> list[bytes]:
    """The bytes in pieces of 1 to 40, the same ones each time."""
    rng, bounds = random.Random(zlib.crc32(data)), [0]
    while bounds[-1] < len(data):
        bounds.append(bounds[-1] + rng.randint(1, 40))
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)]


_SMALL = {"MAX_LINE": 60, "MAX_LITERAL": 200, "MAX_RESPONSE": 600}  # limits that short inputs can reach
_COST = 64  # of one part, besides its octets


def framing(data: bytes) -> None:
    _framed_alike(data)
    with patch.multiple(imap_syntax, **_SMALL):
        _framed_alike(data)


def _framed_alike(data: bytes) -> None:
    whole, broken = _framed([data])
    responses = [parts for parts, _ in whole]
    for pieces in ([data[index : index + 1] for index in range(len(data))], cut(data)):
        framed, also_broken = _framed(pieces)
        assert ([parts for parts, _ in framed], also_broken) == (responses, broken)
        ends = [0]
        for piece in pieces:
            ends.append(ends[-1] + len(piece))
        start = 0
        for parts, stamp in framed:
            assert ends[stamp] <= start < ends[stamp + 1], "not the stamp of the read that held its first byte"
            wire = b"".join(part if index % 2 else part + b"\r\n" for index, part in enumerate(parts))
            assert data.startswith(wire, start)
            assert len(parts) % 2
            start += len(wire)


def _framed(pieces: Sequence[bytes]) -> tuple[list[tuple[Parts, int]], bool]:
    """The responses with the index of the piece each began in, and whether something Malformed came behind them."""
    framer: Framer[int] = Framer()
    found: list[tuple[Parts, int]] = []
    try:
        for index, piece in enumerate(pieces):
            for one in framer.feed(piece, index):
                found.append(one)  # one by one: what came before the error counts
    except Malformed:
        return found, True
    held = sum(len(part) + _COST for part in framer._parts)
    assert held <= imap_syntax.MAX_RESPONSE + imap_syntax.MAX_LINE + _COST
    return found, False


_COMMANDS: tuple[tuple[bytes, str, bytes, tuple[bytes, ...]], ...] = (
    (b"UID FETCH 1:* (UID BODY.PEEK[])", "UID FETCH", b"FETCH", ()),
    (b'LIST "" "*"', "LIST", b"LIST", ()),
    (b"SELECT INBOX", "SELECT", b"", ()),
    (b"AUTHENTICATE PLAIN", "AUTHENTICATE", b"", (b"c2VjcmV0",)),
    (b"APPEND INBOX {3}", "APPEND", b"", (b"abc",)),
    (b"STARTTLS", "STARTTLS", b"", ()),
    (b"CAPABILITY", "CAPABILITY", b"", ()),
)
_WIRE_MALFORMED = {"line too long", "literal too long", "response too long", "answer too long", "UIDVALIDITY changed"}
_WIRE_MALFORMED |= {"a line that answers nothing we asked", "asked for more than there is"}


def wire(data: bytes) -> None:
    """The first byte chooses the command that is in flight; b"TAG" is its tag."""
    chosen, answer = data[:1], data[1:].replace(b"TAG", b"A1")
    run = _loop().run_until_complete
    whole = run(_conversation(chosen, [answer]))
    assert run(_conversation(chosen, cut(answer))) == whole
    assert run(_conversation(chosen, [answer[index : index + 1] for index in range(len(answer))])) == whole


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


async def _conversation(chosen: bytes, pieces: Sequence[bytes]) -> object:
    transport, line = _Transport(), Wire(lambda: Instant(0.0, 0.0, "boot"), 5.0)
    line.connection_made(cast("asyncio.Transport", transport))
    number = (chosen or b"\0")[0] % (len(_COMMANDS) + 2)
    line.new_tag = lambda: "A1"  # type: ignore[method-assign]
    line.secrets = ("secret",)
    task: asyncio.Task[object] | None = None
    if number:  # else the greeting is still to come
        line.data_received(b"* OK ready\r\n")
        line.exists, line.facts = 2, {"UIDVALIDITY": 7}
        run = line.run(*_COMMANDS[number - 2]) if number > 1 else line.idle(5.0, asyncio.Event())
        task = asyncio.ensure_future(run)
        await asyncio.sleep(0)
    for piece in pieces:
        line.data_received(piece)
    for _ in range(3):
        await asyncio.sleep(0)
    lost = line.lost
    line.connection_lost(None)
    outcome: object = None
    if task is not None:
        try:
            outcome = await task
        except (Lost, Refused) as error:
            outcome = type(error), str(error)
    if isinstance(outcome, tuple) and isinstance(outcome[1], str):
        assert harmless(outcome[1])
        assert "secret" not in outcome[1]
    if lost is not None:
        assert transport.aborted
        assert lost[0] in ("protocol_error", "bye")
        assert lost[0] == "bye" or lost[1] in _WIRE_MALFORMED or lost[1].startswith("greeting "), lost
        assert harmless(lost[1], 420)
    assert all(harmless(word, 400) for word in line.known or ())
    # command, its replies, an empty one or DONE: what a server makes us write is bounded, too
    assert len(transport.written) <= 4
    facts = (line.known, line.challenge, line.deaf, line.facts, line.exists, line.expunged)
    return outcome, lost, facts, len(line.rings), line.rung, transport.written


def answers(data: bytes) -> None:
    framed = _framed([data])[0]
    pieces = data.split(b"\n")
    for parts in [*(parts for parts, _ in framed), [data], pieces if len(pieces) % 2 else [*pieces, b""]]:
        _answer(parts)
    code, argument, text = imap_syntax.status(data)
    assert harmless(code)
    assert data.endswith(text)
    assert argument in data
    stamp = imap_syntax.internal_date(data)
    assert stamp is None or math.isfinite(stamp)
    assert harmless(imap_syntax.printable(data), 400)
    name = data.decode("utf-8", "replace")
    imap_syntax.decode_utf7(name).encode()
    assert imap_syntax.decode_utf7(encode_utf7(name)) == name


def _answer(parts: Parts) -> None:
    mail = imap_syntax.parse_fetch(parts)
    assert mail is None or (0 < mail.uid < 1 << 32 and imap_syntax.parse_uid(parts) == mail.uid)
    assert all(0 < uid < 1 << 32 for uid in imap_syntax.parse_search(parts))
    folder = imap_syntax.parse_list(parts)
    if folder is not None:
        raw = folder.raw.encode("utf-8", "surrogateescape")
        assert not set(raw) & set(b"\r\n\0")
        assert all(map(harmless, [folder.name, folder.delimiter, *folder.attributes]))
        watched = folders.choose([folder], [])
        assert watched[0] == folders.INBOX
        assert all(each.raw == folder.raw for each in watched[1:])


def challenge(data: bytes) -> None:
    """The other foreign words of a log-in: why XOAUTH2 was refused, and what the token server answered."""
    assert harmless(oauth.why_refused(data), 40)
    for status in (200, 400, 500):
        with contextlib.suppress(oauth.NoToken):
            granted = oauth.read_answer(status, data)
            assert harmless(granted.token.reveal())
            assert granted.lasts >= 0


# -- mail ----------------------------------------------------------------------------------------------------------


def both(data: bytes) -> Iterator[str]:
    yield data.decode("latin-1")
    yield data.decode("utf-8", "surrogateescape")


def token(data: bytes) -> None:
    for text in both(data):
        for candidate in candidates(text):
            assert candidate in text
            assert verify(KEY, candidate) == (TOKEN if candidate == TEXT else None)
            assert verify(OTHER_KEY, candidate) is None
        assert (verify(KEY, text) is not None) == (text == TEXT)
        assert (verify_envelope_id(KEY, text) is not None) == (text == ENVELOPE_ID)
        assert TEXT not in candidates(without_tokens(text))


def header(data: bytes) -> None:
    head = parse_head(data)
    for name in head:
        assert name == name.lower()
        said = list(values(head, name))
        assert len(said) == len(head[name])
        for text in said:
            text.encode()


def received(data: bytes) -> None:
    """One field, and a head; also octets that are no characters."""
    for text in both(data):
        hop = parse(text)
        assert all(said is None or harmless(said) for said in as_json(hop).values())
        assert hop.date is None or not hop.date_naive
        instant = finer_stamp(hop)
        assert (instant is None) == (hop.date is None)
        if instant and hop.date is not None:
            assert hop.date <= instant[0] < hop.date + hop.resolution
    assert parse(data) == parse(data.decode("latin-1"))
    head = parse_head(data)
    assert len(hops(head)) == len(head.get("received", []))


def explained(data: bytes) -> None:
    """Whatever a person pipes into `mailprobe trace`."""
    for block in headers(data):
        found = explain(block)
        assert len(found.hops) == len(found.stamps) == len(found.held)
        assert all(span is None or 0 <= span.low <= span.high for span in found.held)
        assert found.slowest is None or found.held[found.slowest]
        assert "\x1b" not in "".join(segment.text for segment in CONSOLE.render(view(found)))


def mime(data: bytes) -> None:
    found = list(mime_parts(data))
    assert found
    assert sum(len(part.text) for part in found) <= len(data)
    assert all(part.kind == part.kind.lower() for part in found)


def mail(data: bytes) -> None:
    worth_reading(data, SENDERS)
    found = recognise(KEY, data, SENDERS)
    assert not isinstance(recognise(OTHER_KEY, data, SENDERS), Recognised)
    if isinstance(found, Recognised):
        assert found.token == TOKEN
        assert not found.removable or worth_reading(data, SENDERS)


_GMAIL = b"""Received: by 2002:a4a::1 with SMTP id 1; Mon, 1 Jan 2024 00:00:01 +0000
Received: from mout.example.de ([9.9.9.9]) by mx.google.com with ESMTPS id 1; Mon, 1 Jan 2024 00:00:00 +0000
Authentication-Results: mx.google.com; dkim=fail (a; b) header.d=example.de; spf=pass smtp.mailfrom=example.de
X-End: 1
"""
_OWN = Own("authentication-results", ("google.com",), 2, 1, above=False)
_RESULTS = {"pass", "fail", "softfail", "neutral", "none", "policy", "temperror", "permerror", "other"}


def authenticity(data: bytes) -> None:
    """And whatever a sender writes below them, the receiver's results stay what they are."""
    found = fields(data)
    for own in (None, _OWN):
        verdicts = read(found, own, ("example.org",))
        assert harmless(verdicts.authserv_id, 255)
        assert set(verdicts.summary()) <= set(METHODS)
        for result in (*verdicts.results, *(result for claim in verdicts.claims for result in claim.results)):
            assert result.result in _RESULTS
            assert re.fullmatch(r"[a-z][a-z0-9-]*", result.method)
            assert re.fullmatch(r"[\w.-]*", result.domain, re.A)
            assert harmless(result.reason, 200)
        assert all(spam.score is None or math.isfinite(spam.score) for spam in verdicts.spam)
    held = read(fields(_GMAIL + data), _OWN)
    assert [(each.method, each.result, each.domain) for each in held.results] == [
        ("dkim", "fail", "example.de"),
        ("spf", "pass", "example.de"),
    ]
    Learner().learn("box", found)


_ADDED = (
    b"Received: from a by b; x",
    b"DKIM-Signature: v=1;\r\n\tb=x",
    b"X-Spam: no",
    b"Return-Path: <probe@example.de>",
)


def delivered(data: bytes) -> None:
    """What a provider may do to a test mail on its way, as these bytes say, does not keep it from being known."""
    fields = RAW.partition(b"\r\n\r\n")[0].split(b"\r\n")
    body = RAW.partition(b"\r\n\r\n")[2]
    end = b"\r\n"
    steps = iter(data[:80])
    for step in steps:
        argument = next(steps, 0)
        at = argument % len(fields)
        match step % 8:
            case 0:
                fields.insert(at, _ADDED[argument % len(_ADDED)])
            case 1:  # folded at a space
                name, colon, value = fields[at].partition(b": ")
                fields[at] = name + colon + re.sub(rb"(?<=[^\s]) (?=[^\s])", b"\r\n ", value, count=1)
            case 2:
                fields[at] = fields[at].replace(b": ", (b":", b":\t", b": \r\n ", b":  ")[argument % 4], 1)
            case 3:  # in another order
                fields.append(fields.pop(at))
            case 4:
                name, colon, value = fields[at].partition(b":")
                fields[at] = (name.upper() if argument % 2 else name.lower()) + colon + value
            case 5:  # a field of the provider's own, of these very bytes
                value = bytes(byte for byte in data[:200] if byte not in b"\r\n")
                fields.insert(at, b"X-Provider: " + value)
            case 6:
                body += data
            case 7:
                end = b"\n" if argument % 2 else b"\r\n"
    raw = b"\r\n".join(fields).replace(b"\r\n", end) + end * 2 + body
    assert recognise(KEY, raw, SENDERS) == Recognised(TOKEN, "header", removable=True), raw


def notice(data: bytes) -> None:
    looks_like_notice(data)
    assert read_notice(OTHER_KEY, data) is None
    found = read_notice(KEY, data)
    if found is not None:
        assert found.probe == TOKEN.probe
        assert looks_like_notice(data)
        assert all(harmless(text, 500) for text in found)


def reply(data: bytes) -> None:
    for text in both(data):
        assert harmless(one_line(text), 500)
        found = parse_reply(250, text)
        assert harmless(found.text, 500)
        assert found.text.startswith(found.status)
        assert harmless(queue_id(found.text), 500)


# -- the table -----------------------------------------------------------------------------------------------------


def _minted(template: bytes) -> bytes:
    filled = template.replace(b"@TOKEN@", TEXT.encode()).replace(b"@ENVID@", ENVELOPE_ID.encode())
    return filled.replace(b"\n", b"\r\n")


_NOTICES = [_minted(file.read_bytes()) for file in sorted(DATA.rglob("*.eml"))]

_IMAP_WORDS = (
    *(b"* ", b"+ ", b"TAG ", b"\r\n", b"\r", b"\n", b" ", b"OK ", b"NO ", b"BAD ", b"BYE ", b"PREAUTH ", b"1 ", b"2 "),
    *(b"FETCH ", b"EXISTS", b"EXPUNGE", b"LIST ", b"SEARCH ", b"CAPABILITY ", b"(", b")", b"{", b"}", b"{0}\r\n"),
    *(b"{3}\r\nabc", b"~{3}\r\n", b"{201}\r\n", b"{99999999999}\r\n", b"{60}", b'"', b"\\", b'\\"', b"NIL", b"UID 7"),
    *(b"BODY[]", b"BODY[HEADER] ", b"BINARY[", b"RFC822 ", b"RFC822.SIZE 9", b"INTERNALDATE ", b"[", b"]", b"0"),
    *(b'"14-Nov-2023 23:13:20 +0100"', b"01-Jan-0001 00:00:00 +2359", b"31-Dec-9999 23:59:59 -2359", b"\\Junk"),
    *(b"[UIDVALIDITY 8]", b"[UIDNEXT 4294967296]", b"[READ-ONLY]", b"4294967295", b"4294967296", b"\0", b"\xff"),
    *(b"&AAoAGw-", b"&2D0-", b"&", b"-", b"&U,BTFw-", b"\xed\xb2\x80", b"\x1b[31m", b"secret", b"idling", b"x" * 30),
)
_IMAP = (
    b"* OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] ready\r\n",
    b'* LIST (\\HasNoChildren \\Junk) "/" "Spam"\r\n* LIST () NIL &U,BTFw-\r\n* LIST () "." {4}\r\nJunk\r\nTAG OK\r\n',
    b'* 1 FETCH (UID 7 INTERNALDATE "14-Nov-2023 23:13:20 +0100" RFC822.SIZE 5 BODY[] {5}\r\nab\r\nc)\r\nTAG OK x\r\n',
    b"* 2 FETCH (FLAGS (\\Seen (a)) UID 8 BINARY[] ~{3}\r\n\0\1\2 BODY[HEADER] NIL)\r\n* 3 EXISTS\r\n* 1 EXPUNGE\r\n",
    b"* SEARCH 4 7 (MODSEQ 9)\r\nTAG OK [UIDNEXT 5] done\r\n",
    b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 9]\r\nTAG OK [READ-WRITE] selected\r\n",
    b"+ idling\r\n* 3 EXISTS\r\nTAG OK done\r\n",
    b"+ eyJzdGF0dXMiOiI0MDEifQ==\r\n+ \r\nTAG NO [AUTHENTICATIONFAILED] secret no\r\n",
    b"TAG OK [APPENDUID 7 9] stored\r\n",
    b"* BYE {12}\r\n* OK [ALERT] {3}\r\nTAG BAD {1}\r\n",
)
# A line of exactly MAX_LINE whose CR and LF came in two reads; a response of nothing but announcements
_FRAMED = (b"x" * 60 + b"\r\n", b"* " + b"{0}\r\n" * 150, b"* " + b"x" * 59 + b"\r\n")
_LISTED = (b'* LIST () "/" "&AAoAGw-"\r\n', b'* LIST (\\Junk) "/" "a\x1b[31mb\xff"\r\n')  # control characters in names

_MAIL_WORDS = (
    *(b"\r\n", b"\n", b"\r\n\r\n", b"\r\n ", b"\n\t", b"\r", b" ", b"\0", b"\xff", b"\xed\xb2\x80", b"\xc3\xbc", b":"),
    *(b"<", b">", b"@", b'"', b"(", b")", b"[", b"]", b";", b",", b"\\", b"=", b"?=", b"=?", b"=?utf-8?q?a?= ", b"-"),
    *(b"=?utf-8?b?w7w", b"=?utf-8?q?=", b"=?utf-7?q?+2AA-?=", b"=?punycode?q?a-b?=", b"=?unicode_escape?q?=5Cd?="),
    *(b"=?iso-2022-jp?b?GyRC?=", b"=?gb18030?q?=FE9=FE9?=", b"=?\xfc?q?a?=", b"=?utf-8*de?q?=ff=fe?=", b"> ", b"--"),
    *(
        b"From: ",
        b"Subject: ",
        b"To: ",
        b"Return-Path: <>\r\n",
        b"Auto-Submitted: auto-replied\r\n",
        b"References: x\r\n",
    ),
    *(f"{HEADER}: ".encode(), b"In-Reply-To: x\r\n", b"Content-Type: ", b"Content-Transfer-Encoding: ", b"base64\r\n"),
    *(b"quoted-printable\r\n", b"multipart/mixed; boundary=b\r\n\r\n", b"multipart/report; boundary=b", b"text/html"),
    *(b"report-type=delivery-status", b"message/rfc822\r\n\r\n", b"message/delivery-status\r\n\r\n", b"text/plain"),
    *(b"text/rfc822-headers", b'boundary="', b"--b\r\n", b"--b--\r\n", TEXT.encode(), ENVELOPE_ID.encode(), b"mp1."),
    *(OURS.encode(), b"MAILER-DAEMON", b"postmaster@", b"Undeliverable", b"Original-Envelope-Id: ", b"+FF", b"&#x1b;"),
    *(b"Action: failed\r\n", b"Status: 5.1.1\r\n", b"Diagnostic-Code: smtp; ", b"Final-Recipient: rfc822; ", b"550 "),
    *(b"5.1.1 ", b"X-Failed-Recipients: ", b"Reporting-MTA: dns; ", b"host ", b"<style>", b"</style>", b"QUFB"),
)
_MAILS = (
    RAW,
    RAW.replace(b"\r\n", b"\n"),
    RAW.replace(HEADER.encode(), b"X-Gone"),
    RAW.replace(b": mailprobe", b": Re: mailprobe"),
    b"From: "
    + OURS.encode()
    + b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    + RAW[-200:]
    + b"--b--",
    b"From: " + OURS.encode() + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nbXAxLg==",
    b"Subject: =?utf-8?q?" + TEXT.replace("_", "=5F").encode() + b"?=\r\n\r\n",
    b"From: " + b"(" * 2000 + b"\r\n\r\n",  # a RecursionError of getaddresses
    b"Subject: =?utf-7?q?+2AA-?=\r\n\r\n",  # lone surrogates
    b"Subject: =?unicode_escape?q?=5Cd?=\r\n\r\n",  # a warning
)
_RECEIVED = tuple(record.raw.encode("utf-8") for record in records()[::9])
_RECEIVED_WORDS = (
    *(b"from ", b"by ", b"via ", b"with ", b"id ", b"for ", b"; ", b"(", b")", b"[", b"]", b"<", b">", b"@", b"\r\n "),
    *(b"HELO ", b"helo=", b"ident=", b"envelope-from=", b"TLSv1.2:X:1", b"cipher=", b"AUTH: X", b"uid ", b"tls "),
    *(b"Mon, 6 May 2024 12:00:00 +0200", b"2024-05-06 10:00:00.5 Z", b"5/6/2024 1:00 PM", b"May 6 10:00:00 EDT 2024"),
    *(b"(Postfix)", b"4Rfh7v4WYWzFq9t", b".1208185388868", b"(Domino)", b"2019050615032991-1", b"198.51.100.1", b"::1"),
    *(b"May ", b"\0", b"\xff", b" ", b"1", b"a", b",", b";"),
)
_HEAD_FRAMES = (b"From: @\r\n\r\n", b"Subject: @\r\n\r\n", b"@", b"Content-Type: multipart/mixed; @\r\n\r\n")
_BODY_FRAMES = (
    b"From: MAILER-DAEMON\r\nSubject: Undeliverable\r\n\r\n@",
    b"From: MAILER-DAEMON\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n@",
    b"From: probe@example.de\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n@",
)

_SIGNED = [file.read_bytes()[:4096] for file in sorted((DATA.parent / "authres").glob("*.eml"))]
_SIGNED_NAMES = (
    b"Authentication-Results",
    b"ARC-Authentication-Results",
    b"Received-SPF",
    b"Received",
    b"X-Spam-Status",
)
_SIGNED_WORDS = (
    *(b"\r\n" + name + b": " for name in _SIGNED_NAMES),
    *(
        b"mx.google.com; ",
        b"dkim=pass ",
        b"header.d=",
        b"spf=",
        b"(",
        b")",
        b'"',
        b"\\",
        b";",
        b"=",
        b" ",
        b"a",
        b"1.",
        b":",
    ),
    *(b"by mx.google.com ", b"from a.de [1.2.3.4] ", b"i=1; ", b"score=", b"[", b"-", b"*", b"\xff", b"\0", b"\r\n "),
)

TARGETS: dict[str, Target] = {
    "framing": Target(
        framing, (*_IMAP, *_FRAMED), _IMAP_WORDS, (b"@", b"* 1 FETCH (@"), lambda data: _framed(cut(data))
    ),
    "wire": Target(
        wire,
        [bytes([number]) + text for number in range(len(_COMMANDS) + 2) for text in _IMAP] + [b"\5" + b"+\r\n" * 9],
        _IMAP_WORDS,
        [bytes([number]) + b"@" for number in (0, 1, 2, 5)],
        lambda data: _loop().run_until_complete(_conversation(data[:1], cut(data[1:]))),
    ),
    "answers": Target(answers, (*_IMAP, *_LISTED), _IMAP_WORDS, (b"@", b"* X (@")),
    "challenge": Target(
        challenge,
        (
            *(b"eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=", b"W1tbW1tbW1tbW1tbW1tbW1tb" * 1500),
            *(b'{"access_token":"x","token_type":"Bearer","expires_in":"3599"}', b'{"error":"invalid_grant"}', b"["),
            b"[" * 60_000,  # a RecursionError of json
        ),
        (
            b"{",
            b"}",
            b"[",
            b'"',
            b":",
            b",",
            b'"access_token"',
            b'"expires_in"',
            b'"error"',
            b'"\\ud800"',
            b"NaN",
            b"1",
        ),
    ),
    "token": Target(
        token,
        (
            *(TEXT.encode(), ENVELOPE_ID.encode(), b"x " + TEXT.encode() + b", y\xff", b"mp1.\xed\xa0\x80"),
            f"mp1.{TOKEN.probe}.a-{TEXT}.1.1.{'A' * 22}".encode(),  # one within another
            f"mp1.{TOKEN.probe}.a.1.1.{'A' * 21}-{TEXT}".encode(),  # one that becomes one when its neighbour goes
        ),
        (b"mp1.", b".", b"-", b" ", TOKEN.probe.encode(), b".a-", b".1.1.", b"A" * 22, TEXT.encode(), b"\xff", b"a"),
    ),
    "header": Target(header, [*_MAILS, *_NOTICES[::3]], _MAIL_WORDS, _HEAD_FRAMES),
    "received": Target(
        received,
        (*_RECEIVED, *(b"Received: " + raw + b"\r\n" for raw in _RECEIVED[::9])),
        _RECEIVED_WORDS,
        (b"@", b"from a (@) by b; Mon, 6 May 2024 12:00:00 +0200", b"from @ by b", b"by b with SMTP id @"),
        parse,
    ),
    "trace": Target(
        explained,
        (*_MAILS, *(b"Received: " + raw + b"\r\n" for raw in _RECEIVED[::9]), b"From a 09:00:00 2007\n" + _MAILS[0]),
        (*_MAIL_WORDS, *_RECEIVED_WORDS, b"From a 09:00:00 2007\n", b"> ", b"\n\n", b"\xef\xbb\xbf"),
        (b"@", b"Received: @", b"From a 09:00:00 2007\n@", b"> @"),
        lambda data: [explain(block) for block in headers(data)],
    ),
    "authres": Target(authenticity, _SIGNED, _SIGNED_WORDS, (b"@", *(name + b": @" for name in _SIGNED_NAMES))),
    "mime": Target(mime, [*_MAILS, *_NOTICES[::3]], _MAIL_WORDS, (*_HEAD_FRAMES, *_BODY_FRAMES)),
    "mail": Target(mail, [*_MAILS, *_NOTICES[::3]], _MAIL_WORDS, (*_HEAD_FRAMES, *_BODY_FRAMES)),
    "delivered": Target(
        delivered,
        (bytes(range(64)), b"\0\1\1\1\1\7\2\1\3\2\4\3\5\0\6\0\7\1", b"\1\1\1\1\1\1"),
        (*(bytes([step]) for step in range(8)), b": ", b"\r\n", b"From: x@y\r\n", TEXT.encode(), b"\xff"),
    ),
    "notice": Target(notice, [*_NOTICES, *_MAILS], _MAIL_WORDS, (*_HEAD_FRAMES, *_BODY_FRAMES)),
    "reply": Target(
        reply,
        (
            *(b"2.0.0 Ok: queued as 4XyZ01abc", b"OK id=1qXYZ-0001-AB", b"2.6.0 <x> [InternalId=123] Queued mail"),
            *(b"2.0.0 OK  1700000000 a1-b2si3.4 - gsmtp", b"5.1.1 \xff\0\x1b[31m no", b"\xed\xb2\x80", b"a" * 600),
        ),
        (
            *(b"queued as ", b"<", b"id=", b"InternalId=", b"OK ", b"1 ", b" - gsmtp", b"2.0.0 ", b"Message accepted"),
            *(b".", b"-", b" ", b"\r\n", b"\0", b"\xff", b"\xe2\x80\xae", b"\xed\xb2\x80", b"\xc2\xa0", b"aaaaaaaa"),
        ),
    ),
}
