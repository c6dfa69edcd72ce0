"""What a person has is read as mails: message files, mboxes, and headers that copying has damaged."""

from __future__ import annotations

import html

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.core.headers import parse_fields
from probe.core.mailfile import headers

ONE = (
    "Received: from mx.a.example (mx.a.example [192.0.2.1])\n\tby mx.b.example (Postfix) with ESMTPS id 1\n"
    "\tfor <u@b.example>; Fri, 26 Jan 2007 09:02:11 +0100\nSubject: hello\n"
)
OTHER = "Received: from c.example by d.example; Fri, 26 Jan 2007 09:02:12 +0100\nSubject: other\n"
SEPARATOR = "From probe@example.org Fri Jan 26 09:02:11 2007\n"
FIELDS = parse_fields(ONE)


def read(text: str | bytes) -> list[dict[str, list[str]]]:
    raw = text if isinstance(text, bytes) else text.encode()
    # how the lines of a field were folded is nobody's concern
    return [
        {name: [" ".join(value.split()) for value in values] for name, values in parse_fields(block).items()}
        for block in headers(raw)
    ]


WANTED = read(ONE)


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        ONE.replace("\n", "\r\n"),
        ONE.replace("\n", "\r"),
        "\n\n" + ONE,
        ONE + "\nThe body\n\nFrom here on: more of it\nReceived: not a header\n",
        SEPARATOR + ONE + "\nbody\n",
        # copied from a web page: continued lines lost their indentation, or everything got some, or was quoted
        ONE.replace("\t", ""),
        "".join(f"    {line}\n" for line in ONE.splitlines()),
        "".join(f"> {line}\n" for line in ONE.splitlines()),
        "".join(f"> > {line}\n" for line in ONE.splitlines()) + "> >\n> > body\n",
        "".join(f">> {line.strip()}\n" for line in ONE.splitlines()),
        "".join(f"| {line}\n" for line in ONE.splitlines()),
        "Joe wrote:\n" + "".join(f"> {line}\n" for line in ONE.splitlines()),
        # an empty line behind each
        ONE.replace("\n", "\n\n"),
        ONE.replace("\n", "\r\r\n"),
        # out of HTML, of a program's text, of a mail
        html.escape(ONE),
        "<html><body><pre>\n" + html.escape(ONE) + "</pre></body></html>",
        "<div>" + html.escape(ONE).replace("\n", "<br>\n").replace("\t", "&nbsp; ") + "</div>",
        ONE.replace("\n", "\\r\\n").replace("\t", "\\t"),
        ONE.replace("mx.b", "mx.=\nb").replace("by ", "by=20"),
        "From: a@a.example\nSubject: Fwd\n\n-- the header --\n" + ONE + "\nbody\n",
        # with a word about it
        "Here are the headers:\n\n" + ONE,
        ONE.encode("utf-16"),
        b"\xef\xbb\xbf" + ONE.encode(),
    ],
)
def test_a_mail_is_read_however_it_came(text: str | bytes) -> None:
    assert len(WANTED) == 1
    assert WANTED[0]["received"][0].endswith("for <u@b.example>; Fri, 26 Jan 2007 09:02:11 +0100")
    assert read(text) == WANTED


def test_fields_that_were_pasted_into_one_line_are_taken_apart() -> None:
    both = read(OTHER + ONE)
    assert read(" ".join((OTHER + ONE).split())) == both
    assert [len(values) for values in both[0].values()] == [2, 2]


def test_a_body_is_not_taken_for_a_damaged_header() -> None:
    signed = (
        "DKIM-Signature: v=1; b=abc=\n" + ONE + "\n<p version=3D1>a &lt; b</p>\nreceived: at 9:02\n\\n\\n\\n\\n\\n\n"
    )
    assert read(signed) == [{"dkim-signature": ["v=1; b=abc="], **WANTED[0]}]
    unsent = "From: a@a.example\nSubject: no way\n\nReceived: with thanks\n"
    assert read(unsent) == [{"from": ["a@a.example"], "subject": ["no way"]}]


def test_each_mail_of_an_mbox_is_read() -> None:
    body = "\nTo be or not to be\n\nFrom here to there\n>From quoted Fri Jan 26 09:02:11 2007\n\n"
    mbox = SEPARATOR + ONE + body + SEPARATOR + OTHER + body + SEPARATOR + ONE
    assert read(mbox) == [*WANTED, *read(OTHER), *WANTED]
    assert read(mbox.replace("\n", "\r\n")) == [*WANTED, *read(OTHER), *WANTED]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_without_an_empty_line_before_it_a_separator_is_text(end: str) -> None:
    mbox = SEPARATOR + ONE + "\nhe wrote:\n" + SEPARATOR + OTHER
    assert read(mbox.replace("\n", end)) == WANTED


def test_a_separator_within_a_message_file_is_text() -> None:
    assert read(ONE + "\nhe wrote:\n\n" + SEPARATOR + OTHER) == WANTED


def test_a_continued_line_that_looks_like_a_field_is_told_by_its_address() -> None:
    block = "Received: from a.example\nby 2002:a05:6402::1 with SMTP id x;\nFri, 26 Jan 2007 00:02:11 -0800 (PST)\n"
    assert read(block)[0]["received"] == [
        "from a.example by 2002:a05:6402::1 with SMTP id x; Fri, 26 Jan 2007 00:02:11 -0800 (PST)"
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_letters_are_read_in_either_encoding_whatever_the_body_is_in(encoding: str) -> None:
    raw = "Subject: Grüße\n".encode(encoding) + b"\n" + "Grüße".encode("latin-1") + "Grüße".encode()
    assert read(raw) == [{"subject": ["Grüße"]}]


@pytest.mark.parametrize("text", ["", "\n\n", "nothing of a header", "a\n\nb\n\n"])
def test_what_holds_no_header_gives_no_fields(text: str) -> None:
    assert not any(read(text))


PIECES = st.lists(
    st.sampled_from(
        [
            *("From x 09:02:11 2007\n", "\n", "\r", "> ", "\t", "A: b", "by x:1 ", "é", "\0", "\ufeff", "Received: "),
            *("9:02", "&lt;", "<br>", "=\n", "helo=3D", "\\n", "| "),
        ]
    )
)


@example(b"\x0b")
@given(st.binary(max_size=300) | PIECES.map(lambda pieces: "".join(pieces).encode()))
def test_nothing_is_too_strange(raw: bytes) -> None:
    for block in headers(raw):
        assert block.strip()
