"""The test mail: well-formed as written, known again however it was mangled, and never taken for somebody's letter."""

from __future__ import annotations

import base64
import quopri
import time
from email import message_from_bytes, policy
from email.header import Header
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.core.message import (
    HEADER,
    SUBJECT,
    Mail,
    Recognised,
    Refused,
    compose,
    message_id,
    recognise,
    worth_reading,
)
from probe.core.token import Token, mint

from .test_token import TOKENS

KEY = b"k" * 32
OURS, OTHER, RECIPIENT = "probe@example.de", "human@example.net", "probe@example.org"
SENDERS = frozenset({OURS, RECIPIENT})  # routes often go both ways: the recipient sends probes as well
TOKEN = Token("0123456789abcdef", "gmx-to-own", 1_700_000_000.0, 1_700_000_000.75)
TEXT = mint(KEY, TOKEN)
RAW = compose(KEY, TOKEN, Mail(OURS, RECIPIENT))
HEAD, _, BODY = RAW.partition(b"\r\n\r\n")
FIELDS = dict(line.split(b": ", 1) for line in HEAD.split(b"\r\n"))


def mail(
    subject: bytes | None = FIELDS[b"Subject"], header: bool = True, body: bytes = BODY, **fields: bytes | None
) -> bytes:
    """Our mail with some fields changed (None: removed)."""
    changed = FIELDS | {b"Subject": subject} | {name.replace("_", "-").encode(): v for name, v in fields.items()}
    if not header:
        del changed[HEADER.encode()]
    lines = [name + b": " + value for name, value in changed.items() if value is not None]
    return b"\r\n".join([*lines, b"", body])


def known(raw: bytes) -> Recognised:
    found = recognise(KEY, raw, SENDERS)
    assert isinstance(found, Recognised), found
    assert found.token == TOKEN
    return found


def may_be_removed(raw: bytes) -> bool:
    found = recognise(KEY, raw, SENDERS)
    return isinstance(found, Recognised) and found.removable


# -- as written ----------------------------------------------------------------------------------------------------


@given(
    TOKENS,
    st.from_regex(r"[a-z]{1,20}@[a-z]{1,20}\.example", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"]), max_size=200),
)
@example(TOKEN, OURS, ".")
@example(TOKEN, OURS, "{token}")
@example(TOKEN, OURS, "Jörg, Zimmer 7")
@pytest.mark.parametrize("rules", [policy.default, policy.SMTP, policy.compat32])
def test_the_mail_is_well_formed(rules: policy.Policy, token: Token, sender: str, contact: str) -> None:  # type: ignore[type-arg]
    raw = compose(KEY, token, Mail(sender, RECIPIENT, contact))
    assert raw.endswith(b"\r\n")
    assert raw.replace(b"\r\n", b"").isascii()
    assert not {b"\r", b"\n", b"\0"} & {raw.replace(b"\r\n", b"")[i : i + 1] for i in range(len(raw))}
    lines = raw.split(b"\r\n")
    assert not any(line.startswith(b".") for line in lines)
    assert max(map(len, lines)) <= 998

    parsed: Message = message_from_bytes(raw, policy=rules)  # type: ignore[arg-type]
    assert parsed.defects == []
    assert all(getattr(value, "defects", ()) == () for value in parsed.values())
    assert len(parsed.keys()) == len({key.lower() for key in parsed})
    assert parsedate_to_datetime(str(parsed["Date"])).timestamp() == int(token.sent)
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["From"] == sender
    assert parsed["To"] == RECIPIENT
    assert parsed["Subject"] == SUBJECT + mint(KEY, token)
    assert parsed["Message-ID"] == message_id(token, sender.partition("@")[2])
    assert parsed.get_content_type() == "text/plain"
    assert not {"Return-Path", "Received", "Bcc"} & set(parsed.keys())


def test_no_line_is_too_long_however_long_the_contact() -> None:
    assert max(map(len, compose(KEY, TOKEN, Mail(OURS, RECIPIENT, "x" * 1000)).split(b"\r\n"))) <= 998


@given(TOKENS)
def test_what_was_written_is_recognised_and_may_be_removed(token: Token) -> None:
    found = recognise(KEY, compose(KEY, token, Mail(OURS, RECIPIENT)), SENDERS)
    assert found == Recognised(token, "header", removable=True)


def test_the_body_says_in_words_what_the_mail_is() -> None:
    text = RAW.decode()
    assert "automatic test mail" in text
    assert "Route:  gmx-to-own" in text
    assert "Due:    2023-11-14T22:13:20.000+00:00" in text
    assert "Sent:   2023-11-14T22:13:20.750+00:00" in text
    assert "Questions: the address this mail came from." in text
    assert "Questions: +49 30 1" in compose(KEY, TOKEN, Mail(OURS, RECIPIENT, "+49 30 1")).decode()


# -- mangled on the way --------------------------------------------------------------------------------------------


def test_the_header_alone_suffices() -> None:
    assert known(mail(subject=None, body=b"")) == Recognised(TOKEN, "header", removable=True)
    assert known(HEAD) == Recognised(TOKEN, "header", removable=True)
    assert known(HEAD + b"\r\n\r\n").where == "header"


def test_the_subject_alone_suffices() -> None:
    assert known(mail(header=False, body=b"")) == Recognised(TOKEN, "subject", removable=True)


def test_the_body_alone_suffices_but_not_for_removing() -> None:
    assert known(mail(subject=b"Hello", header=False)) == Recognised(TOKEN, "body", removable=False)
    assert known(mail(subject=None, header=False)) == Recognised(TOKEN, "body", removable=False)


def test_another_name_for_the_same_sender_is_still_the_sender() -> None:
    for sender in (
        OURS.upper().encode(),
        b'"A Probe" <' + OURS.encode() + b">",
        b"=?utf-8?q?Pr=C3=BCfer?= <probe@example.de>",
    ):
        assert known(mail(From=sender)).removable
        assert known(mail(header=False, From=sender)).removable


def encoded(body: bytes, encoding: bytes, content_type: bytes = b"text/plain; charset=utf-8") -> bytes:
    fields = {"Content_Transfer_Encoding": encoding, "Content_Type": content_type}
    return mail(subject=b"changed", header=False, body=body, **fields)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(encoded(quopri.encodestring(BODY), b"quoted-printable"), id="quoted-printable"),
        pytest.param(encoded(base64.encodebytes(BODY), b"base64"), id="base64"),
        pytest.param(encoded(base64.b64encode(BODY), b"BASE64"), id="base64 on one line"),
        pytest.param(encoded(BODY.replace(b"\r\n", b"\n"), b"8bit"), id="bare line feeds"),
        pytest.param(encoded("ümläut ".encode() + BODY, b"8bit", b"text/plain; charset=nonsense"), id="odd charset"),
        pytest.param(encoded(b"<pre>" + BODY + b"</pre>", b"7bit", b"text/html"), id="html"),
        pytest.param(encoded(BODY + b"-- \r\nscanned by X\r\n", b"7bit"), id="footer"),
        pytest.param(encoded(BODY.replace(TEXT.encode(), b" " * 4 + TEXT.encode()), b"7bit"), id="indented"),
    ],
)
def test_a_re_encoded_body_suffices(raw: bytes) -> None:
    assert known(raw) == Recognised(TOKEN, "body", removable=False)


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "7bit"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_body_turned_into_alternatives_suffices(encoding: str, nested: bool) -> None:
    whole = EmailMessage(policy.SMTP)
    whole["From"], whole["To"], whole["Subject"] = OURS, RECIPIENT, "changed"
    whole.set_content("See the HTML.")
    whole.add_alternative(f"<html><body><p>Route</p><p>{TEXT}</p></body></html>", subtype="html", cte=encoding)
    if nested:
        whole.make_mixed()
        whole.add_attachment(b"\0\1", maintype="image", subtype="png")
    assert known(whole.as_bytes()) == Recognised(TOKEN, "body", removable=False)


QUOTED_SUBJECT = (SUBJECT + TEXT).replace("_", "=5F").replace(" ", "_")
SUBJECTS = {
    "folded at a space": FIELDS[b"Subject"].replace(b"mail mp1", b"mail\r\n mp1"),
    "folded at every space": FIELDS[b"Subject"].replace(b" ", b"\r\n "),
    "folded with a tab": FIELDS[b"Subject"].replace(b"mail mp1", b"mail\r\n\tmp1"),
    "folded with bare line feeds": FIELDS[b"Subject"].replace(b"mail mp1", b"mail\n mp1"),
    "base64": Header(SUBJECT + TEXT, "utf-8", header_name="Subject", maxlinelen=75).encode(linesep="\r\n").encode(),
    "base64 in one piece": b"=?utf-8?B?" + base64.b64encode((SUBJECT + TEXT).encode()) + b"?=",
    "quoted": b"=?iso-8859-1?Q?" + QUOTED_SUBJECT.encode() + b"?=",
    "quoted, dots too": b"=?utf-8?q?" + QUOTED_SUBJECT.replace(".", "=2E").encode() + b"?=",
    "quoted in part": b"mailprobe test mail =?us-ascii?q?" + TEXT.replace("_", "=5F").encode() + b"?=",
    "quoted in two": b"=?utf-8?q?mailprobe_test_mail_?=\r\n =?utf-8?q?" + TEXT.replace("_", "=5F").encode() + b"?=",
}


@pytest.mark.parametrize("how", SUBJECTS)
def test_a_subject_that_was_folded_or_encoded_suffices_and_is_still_to_the_letter(how: str) -> None:
    head = mail(subject=SUBJECTS[how], header=False, body=b"")
    assert known(head) == Recognised(TOKEN, "subject", removable=True)
    assert known(head.partition(b"\r\n\r\n")[0]).where == "subject"


@pytest.mark.parametrize("rules", [policy.SMTP, policy.compat32, policy.SMTP.clone(max_line_length=60)])
def test_a_mail_written_anew_by_another_program_is_recognised(rules: policy.Policy) -> None:  # type: ignore[type-arg]
    parsed: Message = message_from_bytes(mail(header=False, body=b"Hello.\r\n"), policy=rules)  # type: ignore[arg-type]
    assert known(parsed.as_bytes(policy=rules)).where == "subject"


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t", b"\n "])
def test_a_folded_header_field_suffices(fold: bytes) -> None:
    folded = mail(subject=None, body=b"").replace(HEADER.encode() + b": ", HEADER.encode() + b":" + fold)
    assert known(folded) == Recognised(TOKEN, "header", removable=True)


@pytest.mark.parametrize("prefix", [b"[SPAM] ", b"***SPAM*** ", b"[EXT] ", b"SUSPECT: "])
def test_a_marked_subject_is_recognised_but_not_to_the_letter(prefix: bytes) -> None:
    marked = prefix + FIELDS[b"Subject"]
    assert known(mail(subject=marked)) == Recognised(TOKEN, "header", removable=True)
    assert known(mail(subject=marked, header=False, body=b"")) == Recognised(TOKEN, "subject", removable=False)


def test_a_changed_token_beside_the_true_one_does_not_hide_it() -> None:
    forged = TEXT[:-1] + ("A" if TEXT[-1] != "A" else "B")
    assert known(mail(subject=forged.encode())).removable
    assert known(mail(subject=forged.encode(), header=False)).where == "body"


def test_forged_tokens_are_refused_as_forged() -> None:
    assert recognise(b"another key".ljust(32), RAW, SENDERS) == Refused("forged")
    assert recognise(KEY, RAW.replace(b"gmx-to-own", b"own-to-gmx"), SENDERS) == Refused("forged")


def test_a_mail_without_token_is_nothing_to_us() -> None:
    assert recognise(KEY, mail(subject=b"Dear friend", header=False, body=b"mp1. is nice"), SENDERS) is None
    assert recognise(KEY, b"", SENDERS) is None


# -- somebody's letters --------------------------------------------------------------------------------------------

QUOTED = b"On Tuesday probe wrote:\r\n" + b"".join(b"> " + line + b"\r\n" for line in BODY.splitlines())
TOP_POSTED = b"What is this?\r\n\r\n-----Original Message-----\r\n" + RAW
HTML = b"<p>What is this?</p><blockquote>" + BODY + b"</blockquote>"
ANSWERS = {"In_Reply_To": FIELDS[b"Message-ID"], "References": FIELDS[b"Message-ID"]}


def attached(subject: str, note: str = "See the attached mail.") -> EmailMessage:
    letter = EmailMessage(policy.SMTP)
    letter["To"], letter["Subject"] = "friend@example.com", subject
    letter.set_content(note)
    letter.add_attachment(message_from_bytes(RAW, policy=policy.SMTP))
    return letter


@pytest.mark.parametrize("sender", [OTHER, OURS, RECIPIENT])
@pytest.mark.parametrize("body", [QUOTED, TOP_POSTED, HTML], ids=["quoted", "top-posted", "html"])
@pytest.mark.parametrize("prefix", ["Re: ", "AW: ", "RE: RE: ", "Fwd: ", "WG: "])
@pytest.mark.parametrize("fields", [ANSWERS, {}], ids=["answers", "answers nothing"])
def test_a_human_reply_or_inline_forward_is_never_removed(
    sender: str, body: bytes, prefix: str, fields: dict[str, bytes | None]
) -> None:
    letter = mail(
        prefix.encode() + FIELDS[b"Subject"], False, body, From=sender.encode(), Auto_Submitted=None, **fields
    )
    assert not may_be_removed(letter)
    if fields or sender == OTHER:
        assert not isinstance(recognise(KEY, letter, SENDERS), Recognised)
    assert not may_be_removed(letter.partition(b"\r\n\r\n")[0])


@pytest.mark.parametrize("field", ["In_Reply_To", "References"])
def test_an_answer_is_never_removed_even_with_our_subject_and_our_header_field(field: str) -> None:
    for header in (True, False):
        assert not may_be_removed(mail(header=header, **{field: FIELDS[b"Message-ID"]}))


@pytest.mark.parametrize("sender", [OTHER, OURS])
@pytest.mark.parametrize("subject", ["Fwd: " + SUBJECT + TEXT, "look at this", SUBJECT + "x"])
def test_a_forward_as_attachment_is_never_removed(sender: str, subject: str) -> None:
    letter = attached(subject)
    letter["From"] = sender
    assert not may_be_removed(letter.as_bytes())


def test_an_attached_probe_is_not_even_recognised() -> None:
    letter = attached("look at this")
    letter["From"] = OURS
    assert recognise(KEY, letter.as_bytes(), SENDERS) is None


def bounce(sender: str) -> bytes:
    boundary = b"=_b"
    parts = (
        b"Content-Type: text/plain\r\n\r\nCould not be delivered: " + TEXT.encode(),
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\nAction: failed\r\nStatus: 5.1.1",
        b"Content-Type: message/rfc822\r\n\r\n" + RAW,
    )
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    head = (
        f"From: {sender}\r\nTo: {OURS}\r\nSubject: {SUBJECT}{TEXT}\r\nAuto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"\r\n\r\n'
    )
    return head.encode() + body


@pytest.mark.parametrize("sender", ["MAILER-DAEMON@example.de", OURS])
@pytest.mark.parametrize("without", [b"", b"Auto-Submitted: auto-replied\r\n"])
def test_a_bounce_is_neither_recognised_nor_removed(sender: str, without: bytes) -> None:
    found = recognise(KEY, bounce(sender).replace(without, b"") if without else bounce(sender), SENDERS)
    assert isinstance(found, Refused)


def test_a_bounce_in_plain_text_is_never_removed() -> None:
    body = b"Hi. This is the qmail-send program.\r\n--- Below this line is a copy of the message.\r\n\r\n" + RAW
    for sender in (b"MAILER-DAEMON@example.de", OURS.encode()):
        assert not may_be_removed(mail(b"failure notice", False, body, From=sender))


@pytest.mark.parametrize("value", [b"auto-replied", b"Auto-Replied (vacation)", b"auto-replied; owner-email=x@y"])
@pytest.mark.parametrize("header", [True, False])
def test_an_automatic_reply_is_never_removed_even_with_our_subject(value: bytes, header: bool) -> None:
    assert not may_be_removed(mail(header=header, From=RECIPIENT.encode(), Auto_Submitted=value))


@pytest.mark.parametrize(
    "sender",
    [
        OTHER.encode(),
        b'"probe@example.de" <human@example.net>',
        b"probe@example.de <human@example.net>",
        b"=?utf-8?q?probe=40example=2Ede?= <human@example.net>",
        b"probe@example.de.evil.example",
        b"xprobe@example.de",
        b"",
        None,
    ],
)
def test_a_foreign_senders_mail_is_never_removed_whatever_it_quotes(sender: bytes | None) -> None:
    assert not may_be_removed(mail(From=sender))
    assert not may_be_removed(mail(header=False, From=sender))
    assert not may_be_removed(mail(b"changed", False, From=sender))
    assert not isinstance(recognise(KEY, mail(header=False, From=sender), SENDERS), Recognised)


def test_only_mail_from_our_senders_is_opened() -> None:
    assert worth_reading(HEAD, SENDERS)
    assert not worth_reading(HEAD.replace(OURS.encode(), OTHER.encode()), SENDERS)
    assert not worth_reading(b"", SENDERS)


# -- unkindness ----------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        *(
            b"=?utf-8?b?a?=",
            b"=?utf-8?b?",
            b"=?nonsense?q?x?=",
            b"=?\xfc?q?a?=",
            b"=?utf-8?q?=ff=fe?=",
            b"=?utf-16?b?2AA=?=",
        ),
        *(
            b"\r\n ",
            b"\n\t",
            b"\0",
            b"\xff\xfe",
            b"<",
            b">",
            b"@",
            b'"',
            b"(",
            b")",
            b"[",
            b":",
            b";",
            b",",
            b"\\",
            b" ",
        ),
        *(b"multipart/mixed; boundary=b", b"multipart/report", b"message/rfc822", b"text/plain; charset=\xff", b"text"),
        *(b"boundary*0*=utf-8''%ff", b"boundary*=x'y", b"base64", b"x-uuencode", b"quoted-printable", b"auto-replied"),
        *(TEXT.encode(), OURS.encode(), b"begin 644 x\r\n#\xff\xff\r\nend\r\n", b"--b\r\n", b"--b--\r\n", b"> "),
    ]
)
VALUES = st.lists(FRAGMENTS | st.binary(max_size=8), max_size=5).map(b"".join)
NAMES = st.sampled_from(
    [
        *(b"Subject", b"From", HEADER.encode(), b"Content-Type", b"Content-Transfer-Encoding", b"Auto-Submitted"),
        *(b"In-Reply-To", b"References", b"\xff", b" "),
    ]
)
UNKIND = st.tuples(st.lists(st.tuples(NAMES, VALUES), max_size=6), VALUES).map(
    lambda it: b"".join(name + b": " + value + b"\r\n" for name, value in it[0]) + b"\r\n" + it[1]
)


@given(UNKIND | st.binary() | VALUES.map(lambda value: RAW[:300] + value + RAW[300:]))
@example(b"Subject: =?utf-8?b?a?=\r\n\r\n")
@example(b"Subject: =?\xfc?q?a?=\r\n\r\n")
@example(HEADER.encode() + b": =?utf-8?b?a?=\r\n\r\n")
@example(b"From: =?utf-8?b?a?= <probe@example.de>\r\n\r\n")
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    recognise(KEY, raw, SENDERS)
    worth_reading(raw, SENDERS)


@pytest.mark.parametrize("unit", [b"(", b"@", b"a:b;", b"a,", b"<"])
def test_an_endless_author_is_nobody_s_and_costs_nothing(unit: bytes) -> None:
    begun = time.process_time()
    for size in (500, 2000, 64 << 10, 4 << 20):
        assert not worth_reading(b"From: " + OURS.encode() + b" " + unit * (size // len(unit)) + b"\r\n\r\n", SENDERS)
    assert time.process_time() - begun < 2  # most of it for finding the field; it was 10 s


@pytest.mark.parametrize("unit", [b"Status: 5.1.1\r\n", b"a:\r\n", b"Subject: =?utf-8?q?a?=\r\n", b"--b\r\n"])
def test_the_largest_mail_that_imap_carries_costs_nothing(unit: bytes) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n" + unit * ((32 << 20) // len(unit))
    begun = time.process_time()
    assert recognise(KEY, raw, SENDERS) is None
    assert not worth_reading(raw, SENDERS)
    assert time.process_time() - begun < 2  # 0.1 s; it was 5 s and more
    assert known(RAW + b"x" * (1 << 20)).removable


def test_no_depth_of_nesting_makes_it_raise() -> None:
    # As deep as 64 KiB, which is what the watcher reads of a mail, can hold.
    sender = b"From: " + OURS.encode() + b"\r\n"
    recognise(KEY, sender + b"Content-Type: message/rfc822\r\n\r\n" * 2000, SENDERS)
    layers = (f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n" for number in range(1000))
    recognise(KEY, sender + "".join(layers).encode(), SENDERS)
