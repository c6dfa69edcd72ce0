"""Bounces: every mail system's is understood, and nothing else is taken for one."""

from __future__ import annotations

import base64
import quopri
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.core import wording
from probe.core.dsn import LIMIT, Notice, looks_like_notice, read_notice
from probe.core.message import Mail, compose
from probe.core.token import Token, mint, mint_envelope_id

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TOKEN = Token("0123456789abcdef", "gmx-to-own", 1_700_000_000.0, 1_700_000_000.75)
OTHER = TOKEN._replace(probe="fedcba9876543210")
DATA = Path(__file__).parent / "data" / "dsn"
NOTICES = {file.stem: file.read_bytes() for file in sorted(DATA.glob("*.eml"))}
OTHERS = {file.stem: file.read_bytes() for file in sorted(DATA.glob("not/*.eml"))}


def minted(template: bytes, token: Token = TOKEN, envelope: Token = TOKEN, key: bytes = KEY) -> bytes:
    """The mail as it is on the wire."""
    text, envid = mint(key, token).encode(), mint_envelope_id(key, envelope.probe).encode()
    return template.replace(b"@TOKEN@", text).replace(b"@ENVID@", envid).replace(b"\n", b"\r\n")


def read(raw: bytes) -> Notice:
    notice = read_notice(KEY, raw)
    assert notice is not None
    return notice


def head_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[0]


# -- what mail systems write ---------------------------------------------------------------------------------------

# action, status, reporting MTA, remote MTA, matched, and something of the diagnostic
EXPECTED = {
    "aol": ("failed", "5.2.1", "omr-a01.mx.aol.com", "", "returned", "521 5.2.1 : (DNY:P1) this"),
    "courier": ("failed", "5.1.1", "courier.example.de", "mx1.example.org [198.51.100.9]", "returned", "550 5.1.1 <"),
    "domino-report": ("failed", "4.3.2", "domino.example.org", "", "returned", "Error transferring to mx1"),
    "domino-text": ("failed", "", "example.org", "", "text", "because: User probe (probe@example.org) not listed"),
    "exchange-2003": ("failed", "5.1.1", "exchange.example.org", "", "returned", "This is an automatically generated"),
    "exchange-internet-mail-service": ("failed", "5.1.1", "example.org", "", "returned", "on 14.11.2006 23:13 The e-"),
    "exim-failed": ("failed", "5.7.1", "mail.example.de", "mx1.example.org", "returned", "554 5.7.1 <probe@example"),
    "exim-report": ("failed", "5.7.26", "mail.example.de", "mx1.example.org", "returned", "550 5.7.26 unauthenticated"),
    "exim-warning": ("delayed", "4.7.1", "mail.example.de", "mx1.example.org", "text", "451 4.7.1 Greylisted, please"),
    "gmail-delayed": ("delayed", "4.4.1", "googlemail.com", "", "returned", "The recipient server did not accept our"),
    "gmail-failed": (
        *("failed", "5.1.0", "googlemail.com"),
        *("198.51.100.9. (198.51.100.9, the server for the domain example.org.)", "returned", "550 #5.1.0 Address"),
    ),
    "gmx": ("failed", "5.1.1", "gmx.net", "mx1.example.org", "returned", "5.1.1 <probe@example.org>... User Unknown"),
    "google-old": ("failed", "5.1.1", "googlemail.com", "mx1.example.org", "returned", "550 5.1.1 <probe@example.org>"),
    "ionos": (
        "failed",
        "",
        "kundenserver.example",
        "",
        "returned",
        "For the following reason: Mail size limit exceeded",
    ),
    "microsoft365-failed": (
        *("failed", "5.1.10", "DB9PR01MB0001.eurprd01.prod.exchangelabs.com", "", "returned"),
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient probe@example.org not found",
    ),
    "microsoft365-german-html": (
        *("failed", "5.2.2", "VI1PR04MB0003.eurprd04.prod.outlook.com", "", "text"),
        "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception",
    ),
    "notes": ("failed", "", "notes.example.org", "", "returned", "------- Failure Reasons -------- User not listed"),
    "postfix-delayed": ("delayed", "4.4.1", "mout.example.de", "mx1.example.org", "returned", "connect to mx1.exam"),
    "postfix-failed": ("failed", "5.1.1", "mout.example.de", "mx1.example.org", "envid", "550 5.1.1 <probe@example."),
    "postfix-relayed": ("relayed", "2.0.0", "mout.example.de", "mx1.example.org", "envid", "250 2.0.0 Ok: queued as"),
    "postfix-smtputf8": ("failed", "5.6.7", "mout.example.de", "mx.example.org", "returned", "553 5.6.7 no UTF-8 für"),
    "qmail": ("failed", "", "mail.example.de", "198.51.100.9", "returned", "550 No such mailbox here Giving up on 198"),
    "qmail-ezmlm-code": ("failed", "5.2.2", "mx1.example.org", "", "returned", "The users mailfolder is over the"),
    "sendmail-alias-expanded": ("failed", "5.1.6", "relay.example.org", "", "envid", "67"),
    "sendmail-failed": ("failed", "5.2.2", "relay.example.de", "mx1.example.org", "returned", "552 5.2.2 Mailbox full"),
    "sendmail-warning": (
        "delayed",
        "4.4.2",
        "relay.example.de",
        "mx1.example.org",
        "returned",
        "451 4.4.1 reply: read",
    ),
    "yahoo": ("failed", "5.4.14", "yahoo.com", "", "returned", "554: 5.4.14 Hop count exceeded"),
}
RECIPIENTS = {
    "aol": "probe@aol.example",
    "notes": "probe@notes.example.org",
    "postfix-smtputf8": "prüfer@exämple.org",
    "sendmail-alias-expanded": "two@example.org",
}


def test_every_sample_is_expected_to_be_something() -> None:
    assert NOTICES.keys() == EXPECTED.keys()
    assert len(OTHERS) > 10


@pytest.mark.parametrize("system", EXPECTED)
def test_a_mail_systems_bounce_is_understood(system: str) -> None:
    notice = read(minted(NOTICES[system]))
    action, status, reporting, remote, matched, diagnostic = EXPECTED[system]
    assert (notice.action, notice.status, notice.matched) == (action, status, matched)
    assert (notice.reporting_mta, notice.remote_mta) == (reporting, remote)
    assert notice.diagnostic.startswith(diagnostic)
    assert notice.recipient == RECIPIENTS.get(system, "probe@example.org")
    assert notice.probe == TOKEN.probe


@pytest.mark.parametrize("system", EXPECTED)
def test_line_ends_make_no_difference(system: str) -> None:
    raw = minted(NOTICES[system])
    assert read_notice(KEY, raw.replace(b"\r\n", b"\n")) == read(raw)


@pytest.mark.parametrize("system", EXPECTED)
def test_a_bounces_header_alone_says_that_it_is_worth_opening(system: str) -> None:
    assert looks_like_notice(head_of(minted(NOTICES[system])))


@pytest.mark.parametrize("system", EXPECTED)
def test_nothing_matches_without_a_token_that_verifies(system: str) -> None:
    assert read_notice(OTHER_KEY, minted(NOTICES[system])) is None
    assert read_notice(KEY, minted(NOTICES[system], key=OTHER_KEY)) is None
    assert read_notice(KEY, NOTICES[system]) is None


@pytest.mark.parametrize("system", EXPECTED)
def test_a_forged_token_never_matches(system: str) -> None:
    raw = minted(NOTICES[system])
    for field in (b"gmx-to-own", TOKEN.probe.encode()):
        for text in (mint(KEY, TOKEN).encode(), mint_envelope_id(KEY, TOKEN.probe).encode()):
            raw = raw.replace(text, text.replace(field, field[:-1] + b"0"))
    assert read_notice(KEY, raw) is None


# -- which probe ---------------------------------------------------------------------------------------------------


def report(fields: str, returned: str = "", text: str = "It failed.", subject: str = "x") -> bytes:
    """A bounce by the standard with these delivery-status fields."""
    parts = [
        f"Content-Type: text/plain\n\n{text}\n",
        f"Content-Type: message/delivery-status\n\n{fields}\n",
        *([returned] if returned else []),
    ]
    body = "".join(f"--b\n{part}\n" for part in parts)
    head = f"From: MAILER-DAEMON@mx\nSubject: {subject}\nContent-Type: multipart/report; boundary=b\n\n"
    return minted((head + body + "--b--\n").encode())


GROUP = "Final-Recipient: rfc822; probe@example.org\n"
RETURNED = "Content-Type: text/rfc822-headers\n\nX-Mailprobe-Token: @TOKEN@\n"


def test_the_envelope_id_wins_over_the_returned_mail() -> None:
    raw = report("Original-Envelope-Id: @ENVID@\n\n" + GROUP, RETURNED)
    raw = raw.replace(mint(KEY, TOKEN).encode(), mint(KEY, OTHER).encode())
    assert read(raw)[0::7] == (TOKEN.probe, "envid")


def test_an_envelope_id_left_in_xtext_is_decoded() -> None:
    raw = report("Original-Envelope-Id: @ENVID@\n\n" + GROUP).replace(b"Id: mp1.", b"Id: +6Dp1+2E")
    assert read(raw).matched == "envid"


def test_a_forged_envelope_id_leaves_it_to_the_returned_mail() -> None:
    raw = report("Original-Envelope-Id: @ENVID@A\n\n" + GROUP, RETURNED)
    assert read(raw).matched == "returned"


@pytest.mark.parametrize("kind", ["message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers"])
@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_the_returned_mail_is_found_however_it_is_wrapped(kind: str, encoding: str) -> None:
    probe = compose(KEY, TOKEN, Mail("probe@example.de", "probe@example.org"))
    wrapped = {
        "7bit": probe,
        "base64": base64.encodebytes(probe),
        "quoted-printable": quopri.encodestring(probe.replace(b"mp1.", b"=mp1.")).replace(b"=3Dmp1=2E", b"=6Dp1."),
    }[encoding]
    wrapped = wrapped.replace(b"=3Dmp1.", b"=6Dp1.")
    mark = b"@RETURNED@"
    part = f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n{mark.decode()}"
    assert read(report(GROUP, part).replace(mark, wrapped)).matched == "returned"


def test_a_base64_part_that_was_cut_is_read_as_far_as_it_goes() -> None:
    inner = base64.b64encode(b"X-Mailprobe-Token: " + mint(KEY, TOKEN).encode() + b"\r\nX-More: " + b"x" * 90)
    part = "Content-Type: text/rfc822-headers\nContent-Transfer-Encoding: base64\n\n@RETURNED@"
    raw, _, _ = report(GROUP, part).partition(b"@RETURNED@")
    assert all(read(raw + inner[: len(inner) - cut]).matched == "returned" for cut in range(60))


def test_a_token_in_the_returned_mails_own_encoded_body_suffices() -> None:
    body = base64.encodebytes(b"Route\r\n\r\n" + mint(KEY, TOKEN).encode()).decode()
    part = f"Content-Type: message/rfc822\n\nSubject: x\nContent-Transfer-Encoding: base64\n\n{body}"
    assert read(report(GROUP, part)).matched == "returned"


def test_a_returned_bounce_is_not_the_notice() -> None:
    inner = report("Original-Envelope-Id: @ENVID@\n\n" + GROUP + "Action: failed\nStatus: 5.1.1\n").decode()
    raw = report(GROUP + "Action: delayed\nStatus: 4.4.7\n", "Content-Type: message/rfc822\n\n" + inner)
    assert read_notice(KEY, raw.replace(b"boundary=b", b"boundary=c", 1).replace(b"--b", b"--c", 3)) is None


def test_what_follows_the_last_part_is_no_part() -> None:
    raw = report(GROUP + "Action: relayed\n", RETURNED)
    behind = b"\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
    assert read(raw + behind).action == "relayed"
    assert read(raw.replace(b"--b--\r\n", b"") + behind).action == "failed"


# -- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "action", "status"),
    [
        ("Action: delayed\nStatus: 5.4.7", "delayed", "5.4.7"),
        ("Action: failed\nStatus: 4.4.7", "failed", "4.4.7"),
        ("Action: FAILED (mailbox full)\nStatus: 5.2.2 (full)", "failed", "5.2.2"),
        ("Status: 4.2.1", "delayed", "4.2.1"),
        ("Status: 2.1.5", "delivered", "2.1.5"),
        ("Action: nonsense\nStatus: 5.1.1", "failed", "5.1.1"),
        ("Action: failed", "failed", ""),
        ("Status: nonsense", "failed", ""),
        ("Action: failed\nDiagnostic-Code: smtp; 550 5.1.1 no", "failed", "5.1.1"),
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550-5.7.1 no", "failed", "5.7.1"),
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 450 4.7.1 no", "failed", "5.0.0"),
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 5.1.1.9 no", "failed", "5.0.0"),
        ("Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.7.1 no", "failed", "5.1.1"),
    ],
)
def test_the_fields_decide_and_the_action_before_the_status(fields: str, action: str, status: str) -> None:
    notice = read(report(GROUP + fields, RETURNED))
    assert (notice.action, notice.status) == (action, status)


def test_of_several_recipients_the_worst_news_counts() -> None:
    actions = ["relayed", "delayed", "failed", "delivered", "expanded"]
    for count, worst in ((1, "relayed"), (2, "delayed"), (5, "failed")):
        groups = "\n\n".join(f"Action: {action}\nStatus: 5.0.{n}" for n, action in enumerate(actions[:count]))
        assert read(report("Reporting-MTA: dns; mx\n\n" + groups, RETURNED)).action == worst


@pytest.mark.parametrize(
    ("subject", "text", "action", "status"),
    [
        ("Delivery delayed", "451 4.7.1 later", "delayed", "4.7.1"),
        ("Delivery status", "451 4.7.1 later. We will retry.", "delayed", "4.7.1"),
        ("Delivery status", "550 5.7.1 never. We will retry.", "failed", "5.7.1"),
        ("Delivery failed", "451 4.7.1 later, delayed too often", "failed", "4.7.1"),
        ("Delivery status", "451 4.7.1 gave up", "failed", "4.7.1"),
        ("Zustellung verzögert", "Wir versuchen es weiter", "delayed", ""),
        ("Delivery was not successful", "", "failed", ""),
        ("Delivery was successful", "", "delivered", ""),
        ("Undeliverable", "see http://192.0.2.5.1.1/ and version 5.1.1", "failed", ""),
    ],
)
def test_words_decide_where_there_are_no_fields(subject: str, text: str, action: str, status: str) -> None:
    assert wording.action(subject, text, wording.listen(text).status) == action
    assert wording.listen(text).status == status


def test_no_word_within_a_token_decides() -> None:
    raw = minted(NOTICES["microsoft365-german-html"], TOKEN._replace(route="delayed-successful"))
    assert read(raw).action == "failed"
    raw = b"From: postmaster@x\r\nSubject: hello\r\n\r\n" + mint(KEY, TOKEN._replace(route="undelivered")).encode()
    assert read_notice(KEY, raw) is None
    delayed = mint(KEY, TOKEN._replace(route="delayed")).encode()
    assert read(report(GROUP, text="@TOKEN@").replace(mint(KEY, TOKEN).encode(), delayed)).action == "failed"


def test_foreign_words_come_out_on_one_bounded_printable_line() -> None:
    raw = report(GROUP + "Diagnostic-Code: smtp; a\x00\x1b[31mb\u2028\u202ec\r\n  d" + "x" * 5000, RETURNED)
    notice = read(raw.replace("\u202e".encode(), b"\xed\xb2\x80\xff"))
    assert notice.diagnostic.startswith("a [31mb")
    assert len(notice.diagnostic) == 500
    assert notice.diagnostic.isprintable()


# -- what is no notice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", OTHERS)
def test_what_only_quotes_our_mail_is_no_notice(what: str) -> None:
    assert b"@TOKEN@" in OTHERS[what] or b"@ENVID@" in OTHERS[what]
    assert read_notice(KEY, minted(OTHERS[what])) is None


# A responder that sends with an empty path and without any sign of what it is can be told only by its words.
OPENED = {"vacation-without-a-sign", "read-receipt-without-report-type"}


@pytest.mark.parametrize("what", OTHERS)
def test_letters_are_not_opened(what: str) -> None:
    assert looks_like_notice(head_of(minted(OTHERS[what]))) == (what in OPENED)


@pytest.mark.parametrize(
    "head",
    [
        *("", "Subject: Undeliverable: x", "From: a@b\nSubject: delivery failed"),
        *(
            "From: Mail <human@example.net>\nSubject: hello",
            "Return-Path: <human@example.net>\nFrom: human@example.net",
        ),
        *(
            "From: postmaster.jones@example.net",
            "From: postmaster@x <human@example.net>",
            "From: the.mailer@daemon.org",
        ),
        *("From: =?utf-8?q?mailer-daemon=40x?= <human@example.net>", "Auto-Submitted: auto-generated\nSubject: news"),
        *("Auto-Submitted: no\nSubject: Undeliverable", "From: mailer-daemon@x\nSubject: AW: Unzustellbar"),
        *("Return-Path: <>\nSubject: Out of office: x", "Return-Path: <>\nX-Autoreply: yes"),
        "Content-Type: multipart/report; report-type=disposition-notification",
    ],
)
def test_such_a_header_opens_nothing(head: str) -> None:
    assert not looks_like_notice(head.encode())


@pytest.mark.parametrize(
    "head",
    [
        *(
            "Content-Type: multipart/report; boundary=x",
            "Content-type: Multipart/Report;\n\treport-type=delivery-status",
        ),
        *("Return-Path: <>\nFrom: someone@x", "return-path:\nFrom: someone@x", "X-Failed-Recipients: a@b"),
        *("From: MAILER-DAEMON", "From: MAILER-DAEMON (Mail Delivery System)", "From: <PostMaster@x>"),
        *("From: Mail Delivery Subsystem <noreply@x>", "From: =?utf-8?q?Mail_Delivery_System?= <noreply@x>"),
        *("Auto-Submitted: auto-replied\nFrom: noreply@x\nSubject: Undelivered", "From: MAILER_DAEMON@x"),
        *(
            f"Auto-Submitted: auto-generated\nSubject: {subject}"
            for subject in (
                *("Unzustellbar: x", "Non remis : x", "No se puede entregar: x", "Mail delivery failed", "退信"),
                *("Onbestelbaar: x", "Mancato recapito", "Não é possível entregar", "Niedostarczona wiadomość"),
            )
        ),
    ],
)
def test_such_a_header_is_worth_opening(head: str) -> None:
    from email.header import Header

    name, _, subject = head.rpartition("Subject: ")
    encoded = f"{name}Subject: {Header(subject, 'utf-8').encode()}" if name else head
    assert looks_like_notice(encoded.encode())


def test_our_own_probe_is_no_notice_even_with_an_empty_path() -> None:
    probe = b"Return-Path: <>\r\n" + compose(KEY, TOKEN, Mail("mailer-daemon@example.de", "x@example.org"))
    assert read_notice(KEY, probe) is None
    assert not looks_like_notice(head_of(probe))


# -- unkindness ----------------------------------------------------------------------------------------------------

RAWS = [minted(template) for template in (NOTICES | OTHERS).values()]
ODD = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"\0",
            b"\xff",
            b"\xed\xb2\x80",
            b"--",
            b";",
            b'"',
            b"=",
            b"=?",
            b"?=",
            b"<",
            b">",
        ),
        *(b"Content-Type: multipart/report; boundary=", b"boundary=\xff", b"Content-Transfer-Encoding: base64\r\n"),
        *(b"Content-Type: message/rfc822\r\n\r\n", b"Content-Type: message/delivery-status\r\n\r\n", b"From: "),
        *(b"Subject: =?utf-8?b?a?=\r\n", b"Original-Envelope-Id: +FF+\r\n", b"Action: \r\n", b"=?utf-16?b?2AA=?="),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = draw(st.sampled_from(RAWS))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(raw)))
        end = begin + draw(st.integers(0, 40))
        raw = raw[:begin] + draw(ODD | st.binary(max_size=8)) + raw[end:]
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw


@given(mutated() | st.binary() | st.lists(ODD).map(b"".join))
@example(b"Return-Path: <>\r\nSubject: Undeliverable\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
@example(b"From: MAILER-DAEMON\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n--b\r\n--b--")
def test_no_bytes_make_it_raise_and_what_comes_out_is_harmless(raw: bytes) -> None:
    looks_like_notice(raw)
    assert read_notice(OTHER_KEY, raw) is None
    notice = read_notice(KEY, raw)
    if notice:
        assert notice.probe == TOKEN.probe
        for text in notice:
            assert text.isprintable()
            assert len(text) <= 500
            text.encode()


SECOND = "From: MAILER-DAEMON\r\nSubject: Undeliverable\r\n"
NESTED = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(40_000))


@pytest.mark.parametrize(
    "bulk",
    [
        *(
            "\r\n",
            "\n \n",
            " ",
            "\t",
            "(",
            ":",
            "<",
            ">",
            "<style",
            "a@",
            "a.",
            "550 ",
            "550-",
            "#5.1.",
            "&",
            "-",
            "\r",
        ),
        *("host ", "host a.", "by a", "=?utf-8?q?a?=", "=?a?q?", "mail ", "message ", "zustellung ", "mp1.", "=", "A="),
        *("--b\r\n", "--b\r\n\r\nx\r\n", "Content-Type: message/rfc822\r\n\r\n", 'boundary="', ";boundary=", "no se "),
        *(mint(OTHER_KEY, TOKEN) + " ", "Action: failed\r\n\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n"),
        NESTED,
    ],
    ids=lambda bulk: ascii(bulk)[:30],
)
def test_time_grows_no_faster_than_the_mail(bulk: str) -> None:
    bulk *= 2 * LIMIT // len(bulk) + 1
    begun = time.process_time()
    for head in (
        "Content-Type: text/plain\r\n\r\n",
        "Content-Type: text/html\r\n\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n",
        "Content-Type: message/rfc822\r\n\r\n",
        "Subject: ",
        "Return-Path: ",
        "Content-Type: multipart/mixed;",
    ):
        read_notice(KEY, (SECOND + head + bulk).encode())
    read_notice(KEY, ("From: " + bulk).encode())
    assert time.process_time() - begun < 5  # quadratic would be minutes; linear is a tenth of a second each


def test_what_stands_behind_the_limit_is_not_looked_at() -> None:
    raw = minted(NOTICES["qmail"])
    assert read_notice(KEY, raw.replace(b"Return-Path: <probe", b"x" * LIMIT + b"Return-Path: <probe")) is None
    assert read(raw + b"x" * LIMIT) == read(raw)
