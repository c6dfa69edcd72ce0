"""What the receiver found: its own words are understood, and nobody else's are taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.authres import METHODS, Learner, Own, Result, Spam, Verdicts, read
from probe.core.authserv import organisation
from probe.core.headers import fields, parse_head
from probe.core.resinfo import authentication_results, received_spf
from probe.core.spam import read_spam

Fields = list[tuple[str, str]]

DATA = Path(__file__).parent / "data" / "authres"
MAILS = {file.stem: fields(file.read_bytes()) for file in sorted(DATA.glob("*.eml"))}
HOSTS = ("imap.example.org", "example.org")
# Nothing in these is certainly the receiver's: a gateway's name that nobody knows, a sender's own field, a field below
# the sender's, results under a name that is not the host's.
UNSIGNED = {"exchange-behind-ironport", "from-yandex", "mail-ru", "mimecast"}


def learnt(*mails: Fields) -> Own | None:
    learner = Learner()
    for mail in mails:
        learner.learn("box", mail, HOSTS)
    return learner.own("box")


def own_of(mail: Fields) -> Own:
    own = learnt(mail, mail, mail)
    assert own
    return own


OWN = {system: own_of(mail) for system, mail in MAILS.items() if system not in UNSIGNED}


# -- what receivers write ------------------------------------------------------------------------------------------

# who says it, spf, dkim, dmarc, arc, and the domain of the signature that counts
EXPECTED = {
    "amavis": ("mail.example.org", "", "pass", "", "", "example.de"),
    "exchange-online": ("", "pass", "pass", "pass", "", "au-1.mimecastreport.com"),
    "exchange-online-2019": ("", "softfail", "fail", "fail", "", "google.com"),
    "exim-mail-gateway": ("somewhere.your-server.de", "none", "", "other", "", ""),
    "fastmail": ("mx5.messagingengine.com", "pass", "pass", "pass", "none", "fastmail.com"),
    "gmail-2015": ("mx.google.com", "pass", "pass", "pass", "", ""),
    "gmail-arc-outlook": ("mx.google.com", "pass", "pass", "pass", "pass", ""),
    "gmail-forwarded": ("mx.google.com", "neutral", "pass", "", "pass", ""),
    "gmail-two-signatures": ("mx.google.com", "pass", "pass", "pass", "", ""),
    "gmx-from-microsoft": ("gmx.net", "", "pass", "", "", "example.com"),
    "icloud": ("bimi.icloud.com", "pass", "pass", "pass", "none", "example.de"),
    "opendkim-opendmarc": ("opendmarc", "", "pass", "pass", "", "example.de"),
    "postfix-policyd-spf": ("mail.example.org", "softfail", "", "", "", ""),
    "proofpoint": ("ppops.net", "softfail", "", "", "", ""),
    "proton": ("mail.protonmail.ch", "none", "pass", "fail", "none", "example.de"),
    "rspamd": ("mail.example.org", "pass", "pass", "fail", "", "example.de"),
    "stalwart": ("mail.example.org", "pass", "pass", "pass", "none", "example.de"),
    "yahoo": ("atlas-production.v2-mail-prod1-bf1.omega.yahoo.com", "pass", "none", "pass", "", ""),
    "yandex": (
        *("mail-nwsmtp-mxfront-production-main-83.iva.yp-c.yandex.net", "pass", "pass", "", ""),
        "example.de",
    ),
    "zoho": ("mx.zohomail.com", "pass", "pass", "pass", "", ""),
}

FILTERED = {
    "amavis": {"x-spam-flag": (True, None), "x-spam-score": (None, 6.31), "x-spam-status": (True, 6.31)},
    "gmx-from-microsoft": {"x-gmx-antispam": (False, 0.0)},
    "rspamd": {"x-spamd-result": (False, -1.31), "x-rspamd-action": (False, None), "x-spam-score": (None, -1.31)},
    "yandex": {"x-yandex-spam": (False, 1.0)},
}


@pytest.mark.parametrize("system", MAILS)
def test_a_receivers_verdicts_are_understood(system: str) -> None:
    if system in UNSIGNED:
        assert learnt(*[MAILS[system]] * 9) is None
        assert read(MAILS[system], None, HOSTS).results == ()
        return
    who, *words, domain = EXPECTED[system]
    verdicts = read(MAILS[system], OWN[system])
    assert verdicts.trusted
    assert verdicts.authserv_id == who
    assert verdicts.summary() == {method: word for method, word in zip(METHODS, words, strict=True) if word}
    dkim = verdicts.best("dkim")
    assert (dkim.domain if dkim else "") == domain


@pytest.mark.parametrize("system", FILTERED)
def test_a_filters_verdict_is_understood(system: str) -> None:
    found = {spam.header: (spam.flagged, spam.score) for spam in read(MAILS[system], OWN[system]).spam}
    assert found.items() >= FILTERED[system].items()


def test_what_outgoing_microsoft_says_of_spam_is_not_the_receivers() -> None:
    spam = read(MAILS["gmx-from-microsoft"], OWN["gmx-from-microsoft"]).spam
    assert [each.header for each in spam] == ["x-gmx-antispam"]


def test_without_knowing_the_receiver_it_is_a_guess() -> None:
    verdicts = read(MAILS["gmail-arc-outlook"], None)
    assert verdicts.summary()["dmarc"] == "pass"
    assert not verdicts.trusted
    assert [claim.authserv_id for claim in verdicts.claims] == ["mx.google.com", "mx.microsoft.com"]  # of ARC


# -- the grammar ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "results"),
    [
        ("x.org; none", []),
        ("x.org 1; none", []),
        ("", []),
        (";;=;a=;=b", [Result("a", "other")]),
        ("x.org; spf=pass smtp.mailfrom=a@Ex.DE", [Result("spf", "pass", "ex.de")]),
        ("x.org; spf = pass smtp.mailfrom = a@ex.de", [Result("spf", "pass", "ex.de")]),
        ("x.org; spf/1=PASS", [Result("spf", "pass")]),
        ("i=2; x.org; dkim=pass header.d=ex.de", [Result("dkim", "pass", "ex.de")]),
        ("x.org;\tdmarc=pass(p=NONE) header.from=ex.de", [Result("dmarc", "pass", "ex.de", "p=NONE")]),
        ("x.org; spf=fail (dkim=pass; (dmarc=pass) \\) x) smtp.helo=h", [
            Result("spf", "fail", "h", "dkim=pass; (dmarc=pass) \\) x")
        ]),
        ('x.org; dkim=fail reason="a;\\"b (c" header.d=ex.de', [Result("dkim", "fail", "ex.de", 'a;"b (c')]),
        ('x.org; spf=pass smtp.mailfrom="dkim=pass@ex.de"', [Result("spf", "pass", "ex.de")]),
        ("x.org; dkim=pass header.b=ab/+== header.d=ex.de", [Result("dkim", "pass", "ex.de")]),
        ("x.org; dkim=hardfail; spf=bestguesspass; arc=weird", [
            Result("dkim", "fail"), Result("spf", "none"), Result("arc", "other")
        ]),
        ("x.org; spf=pass (never closed; dkim=pass", [Result("spf", "pass", "", "never closed; dkim=pass")]),
        ("x.org; spf=pass smtp.mailfrom=<>", [Result("spf", "pass")]),
        ("x.org; spf=pass smtp.mailfrom= smtp.helo=h.de", [Result("spf", "pass", "h.de")]),
        ("x.org; dkim=none header.d=none", [Result("dkim", "none")]),
        ("x.org; dkim=pass header.d=a\x1b[31mb", [Result("dkim", "pass")]),
        ("x.org; dkim=pass reason=a\x1b\x07b", [Result("dkim", "pass", "", "a b")]),
        ("x.org; D\xfcm=pass", []),
    ],
)  # fmt: skip
def test_the_grammar_is_read_as_it_is_written(value: str, results: list[Result]) -> None:
    assert list(authentication_results(value).results) == results


def test_whose_words_they_are() -> None:
    assert authentication_results("MX.Example.org 1; none").by == "mx.example.org"
    assert authentication_results('"mx.example.org"; none').by == "mx.example.org"
    assert authentication_results("(a) mx.example.org (b) ; none").by == "mx.example.org"
    assert authentication_results("spf=pass; x.org; dkim=pass").by == ""
    assert received_spf("Pass (mailfrom) identity=mailfrom; receiver=<UNKNOWN>; helo=h.de").by == ""
    assert received_spf("pass receiver=a.org; receiver=b.org").by == "a.org"
    assert received_spf("pass (google.com: domain of a@ex.de designates 1 as permitted sender)").by == "google.com"


def test_of_two_good_signatures_the_authors_counts() -> None:
    good = (Result("dkim", "pass", "esp.example"), Result("dkim", "pass", "mail.ex.de"))
    bad = Result("dkim", "fail", "ex.de")
    from_author = Result("dmarc", "pass", "ex.de")
    assert Verdicts(results=(bad, *good, from_author)).best("dkim") == good[1]
    assert Verdicts(results=(bad, *good)).best("dkim") == good[0]
    assert Verdicts(results=(bad, Result("dkim", "neutral"))).summary() == {"dkim": "fail"}


def test_of_two_other_results_the_upper_counts() -> None:
    assert Verdicts(results=(Result("spf", "fail"), Result("spf", "pass"))).summary() == {"spf": "fail"}


@pytest.mark.parametrize(
    ("header", "value", "flagged", "score"),
    [
        ("x-spam-flag", "YES", True, None),
        ("x-spam-flag", "NO", False, None),
        ("x-spam-flag", "perhaps", None, None),
        ("x-spam-status", "No, score=-2.1 required=5.0 tests=BAYES_00", False, -2.1),
        ("x-spam-status", "Yes, hits=15.3 required=5.0", True, 15.3),
        ("x-spam-score", "0.0 (/)", None, 0.0),
        ("x-spam-score", "9" * 400, None, None),
        ("x-spam-level", "****", None, 4.0),
        ("x-spam-level", "", None, 0.0),
        ("x-spamd-bar", "---", None, -3.0),
        ("x-spam-bar", "/", None, 0.0),
        ("x-spamd-bar", "+-", None, None),
        ("x-spamd-result", "default: True [16.30 / 15.00]; A(1.0)[]", True, 16.3),
        ("x-rspamd-action", "add header", True, None),
        ("x-ms-exchange-organization-scl", "-1", False, -1.0),
        ("x-ms-exchange-organization-scl", "5", True, 5.0),
        ("x-forefront-antispam-report", "CIP:1.2.3.4; SCL:1; SFV:NSPM; CAT:NONE;", False, 1.0),
        ("x-forefront-antispam-report", "CIP:1.2.3.4;SCL:5;SFV:SPM;CAT:SPM;", True, 5.0),
        ("x-forefront-antispam-report", "SCL:6;SFV:;", True, 6.0),
        ("x-forefront-antispam-report", "SCL:-1;SFV:SKB;", True, -1.0),
        ("x-microsoft-antispam", "BCL:7;ARA:13230040", None, 7.0),
        ("x-microsoft-antispam-mailbox-delivery", "ucf:0;jmr:0;auth:0;dest:J;ENG:x", True, None),
        ("x-gmx-antispam", "0 (Mail was not recognized as spam); Detail=V3;", False, 0.0),
        ("x-gmx-antispam", "6 (nemesis text pattern profiler); Detail=V3;", True, 6.0),
        ("x-gmx-antispam", "-2 (not scanned, spam filter disabled)", None, -2.0),
        ("ui-inboundreport", "notjunk:1;M01:P0:x", False, None),
        ("x-proofpoint-spam-details", "rule=fb_default_notspam policy=default score=0 spamscore=9", False, 0.0),
        ("x-proofpoint-spam-details", "rule=spam policy=default score=100", True, 100.0),
        ("x-barracuda-spam-status", "No, SCORE=-0.92 using global scores", False, -0.92),
        ("x-mailscanner-spamcheck", "not spam, SpamAssassin (not cached, score=1.5, required 6)", False, 1.5),
        ("x-ironport-anti-spam-filtered", "true", None, None),
        ("x-yandex-spam", "4", True, 4.0),
        ("x-bogosity", "Ham, tests=bogofilter, spamicity=0.000001", False, 0.000001),
    ],
)
def test_filters_are_read_in_one_form(header: str, value: str, flagged: bool | None, score: float | None) -> None:
    assert read_spam(header, value) == Spam(flagged, score, header)


def test_no_filters_field_says_nothing() -> None:
    assert read_spam("x-spam-checker-version", "SpamAssassin 3.4.6") is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx5.messagingengine.com", "messagingengine.com"),
        ("MX.Example.CO.UK.", "example.co.uk"),
        ("example.com.br", "example.com.br"),
        ("mail.web.de", "web.de"),
        ("p00.me.com", "icloud.com"),
        *((nobody, "") for nobody in ("10.1.2.3", "2002:a4a::1", "[1.2.3.4]", "localhost", "mx5", "a.internal", "")),
    ],
)
def test_a_host_belongs_to_an_organisation(host: str, name: str) -> None:
    assert organisation(host) == name


def test_fields_keep_their_order_and_are_unfolded() -> None:
    raw = b"B: 1\r\nA: 2\r\n\t3\r\nb: 4\r\nnoise\r\n\r\nC: 5\r\n"
    assert fields(raw) == [("b", "1"), ("a", "2\t3"), ("b", "4")]
    assert {name for name, _ in fields(raw)} == parse_head(raw).keys()


# -- whom to believe -----------------------------------------------------------------------------------------------


def senders_part(system: str) -> int:
    """From which index on the sender could have written the fields."""
    mail, own = MAILS[system], OWN[system]
    lowest = max(index for index, (name, _) in enumerate(mail) if name == own.field and index in mine(system))
    if not own.above:
        return lowest + 1
    return next(index for index in range(lowest, len(mail)) if mail[index][0] == "received") + 1


def mine(system: str) -> set[int]:
    """The indices of the receiver's results."""
    received, found = 0, set()
    for index, (name, _) in enumerate(MAILS[system]):
        if name == OWN[system].field and received == OWN[system].depth:
            found.add(index)
        received += name == "received"
    return found


FORGED = [
    f"{method}={word} header.d=evil.example header.from=evil.example" for method in METHODS for word in ("pass", "x")
]


@st.composite
def forged(draw: st.DrawFn, system: str) -> Fields:
    """The fields of a sender that knows how this receiver signs."""
    who = st.sampled_from(
        ["", "evil.example; ", *(f"{name}; " for name in ("x.org", read(MAILS[system], None).authserv_id))]
    )
    said = st.builds(lambda who, results: who + "; ".join(results), who, st.lists(st.sampled_from(FORGED), max_size=4))
    name = st.sampled_from(["authentication-results", "Authentication-Results", OWN[system].field, "arc-seal"])
    genuine = st.sampled_from(MAILS[system])
    return draw(st.lists(st.tuples(name, said) | genuine, max_size=12))


@pytest.mark.parametrize("system", OWN)
def test_no_forged_field_changes_what_the_receiver_said(system: str) -> None:
    mail, own = MAILS[system], OWN[system]
    begin = senders_part(system)

    @settings(max_examples=60, deadline=None)
    @given(forged(system), st.data())
    def holds(fake: Fields, data: st.DataObject) -> None:
        at = data.draw(st.integers(begin, len(mail)))
        verdicts = read([*mail[:at], *fake, *mail[at:]], own)
        assert verdicts.trusted
        assert verdicts.results == read(mail, own).results

    holds()


ABOVE = [system for system, own in OWN.items() if own.above and system != "gmail-forwarded"]  # sent by Gmail, too


@pytest.mark.parametrize("system", ABOVE)
def test_above_its_own_received_a_receivers_place_cannot_be_taken(system: str) -> None:
    mail, own = MAILS[system], OWN[system]
    copies = [mail[index] for index in sorted(mine(system))]
    begin = senders_part(system)
    silent = [field for index, field in enumerate(mail[:begin]) if index not in mine(system)]
    verdicts = read([*silent, *copies, *mail[begin:]], own)
    assert not verdicts.trusted
    assert verdicts.results == ()
    assert verdicts.summary() == {}


def gmail(*fields_below: tuple[str, str], said: str = "mx.google.com; spf=pass") -> Fields:
    boundary = (
        "from mout.example.de (mout.example.de. [9.9.9.9]) by mx.google.com with ESMTPS id 1; Mon, 1 Jan 2024 0:0:0 Z"
    )
    own = [("authentication-results", said)] if said else []
    return [("received", "by 2002:a4a::1 with SMTP id 1"), ("received", boundary), *own, *fields_below]


def test_three_mails_must_agree() -> None:
    assert learnt(gmail(), gmail()) is None
    assert learnt(gmail(), gmail(), gmail()) == Own("authentication-results", ("google.com",), 2, 1, above=False)
    assert learnt(gmail(), gmail(), gmail(), MAILS["gmx-from-microsoft"]) is None


def test_below_its_received_a_receiver_must_never_have_been_silent() -> None:
    assert learnt(gmail(), gmail(said=""), gmail(), gmail()) is None
    assert learnt(gmail(said=""), *[gmail()] * 16) is not None  # long ago


def test_above_its_received_a_receiver_may_have_been_silent() -> None:
    mail = MAILS["gmx-from-microsoft"]
    own = learnt(mail, mail[2:], mail, mail)
    assert own
    assert read(mail, own).trusted


def test_no_more_fields_count_than_were_always_there() -> None:
    double = gmail(("authentication-results", "mx.google.com; dkim=fail"))
    own = learnt(double, double, gmail())
    assert own
    assert own.number == 1
    assert read(double, own).summary() == {"spf": "pass"}
    both = learnt(double, double, double)
    assert read(double, both).summary() == {"spf": "pass", "dkim": "fail"}


def test_above_its_received_as_many_count_as_were_ever_there() -> None:
    mail = MAILS["proton"]
    fewer = [field for field in mail if "key not found" not in field[1]]
    own = learnt(fewer, mail, fewer)
    assert len(read(mail, own).results) == len(read(fewer, own).results) + 1 == 5


def test_addresses_tell_where_a_mail_came_from() -> None:
    def from_(clause: str) -> Own | None:
        hops = [("received", f"from {clause} by mailhost (Postfix); x"), ("received", "by mx.example.com (Postfix); x")]
        return learnt(*[[*hops, ("authentication-results", "mx.example.com; spf=pass")]] * 3)

    for inside in (
        "mx5 ([10.202.2.204])",
        "localhost",
        "a.example.net ([127.0.0.1])",
        "a.example.net ([IPv6:fd00::1])",
    ):
        assert from_(inside), inside
    for outside in (
        "a.example.net",
        "mx5 ([9.9.9.9])",
        "mx5 ([IPv6:2a02:6b8:c0c:1::1])",
        "a.example.net ([9.9.9.9.9])",
    ):
        assert from_(outside) is None, outside


def test_a_sender_that_writes_the_recipients_name_is_not_learnt() -> None:
    outgoing = [
        (
            "received",
            "from o.outbound.protection.outlook.com ([40.107.22.41]) by mx.example.org (Postfix) with ESMTPS id 1",
        ),
        ("received", "from a.prod.outlook.com (::1) by b.prod.outlook.com with mapi id 15; Mon, 1 Jan 2024 0:0:0 Z"),
        ("authentication-results", "example.org; dkim=none (message not signed) header.d=none;example.org; dmarc=none"),
    ]
    assert learnt(*[outgoing] * 9) is None


def test_a_short_host_name_does_not_make_the_senders_host_the_receivers() -> None:
    yandex = MAILS["from-yandex"]
    by_short_name = [("received", yandex[0][1].replace("mx1.example.org", "mailhost")), *yandex[1:]]
    assert learnt(*[by_short_name] * 9) is None


def test_between_the_two_a_field_in_another_name_does_not_count_even_if_the_receiver_is_silent() -> None:
    own = own_of(gmail())
    verdicts = read(gmail(("authentication-results", "out.example.de; spf=pass"), said=""), own)
    assert (verdicts.results, verdicts.trusted) == ((), False)


def test_only_fields_side_by_side_are_one_statement() -> None:
    upper, lower = (("authentication-results", f"a.org; {result}") for result in ("spf=fail", "dkim=pass"))
    mail = [upper, ("received", "by a.org"), lower]
    own = Own("authentication-results", ("a.org",), 1, 2, above=True)
    assert read(mail, own).summary() == {"spf": "fail"}


def test_a_relay_on_the_same_network_is_not_the_receivers() -> None:
    hops = [
        ("received", "from out ([10.0.0.3]) by mx.example.org (Postfix) with ESMTPS id 1"),
        ("received", "from client ([10.0.0.4]) by out.example.de with ESMTPSA id 2"),
    ]
    field = ("authentication-results", "out.example.de; auth=pass")
    assert learnt(*[[hops[0], field, hops[1]]] * 9) is None
    assert learnt(*[[*hops, field]] * 9) is None


def test_names_of_fields_are_read_in_any_case() -> None:
    mail = [(name.title(), value) for name, value in MAILS["rspamd"]]
    assert read(mail, own_of(mail)) == read(MAILS["rspamd"], OWN["rspamd"])


def test_the_topmost_of_a_filters_fields_counts() -> None:
    flags = [("x-spam-flag", "YES"), ("x-spam-flag", "NO")]
    assert read(flags, None).spam == (Spam(True, None, "x-spam-flag"),)
    assert read([("received", "by a.org")] * 2 + flags, None).spam == ()


def test_mailboxes_are_learnt_apart() -> None:
    learner = Learner()
    for _ in range(3):
        learner.learn("a", gmail(), HOSTS)
        learner.learn("b", MAILS["opendkim-opendmarc"], HOSTS)
        learner.learn("c", [], HOSTS)
    assert learner.own("a") != learner.own("b") is not None
    assert learner.own("c") is learner.own("d") is None


def test_what_is_learnt_is_bounded() -> None:
    learner = Learner()
    for _ in range(100):
        learner.learn("a", gmail(), HOSTS)
    for _ in range(16):
        learner.learn("a", [])
    assert learner.own("a") is None  # what came before these is not remembered
    for _ in range(3):
        learner.learn("b", gmail(), HOSTS)
    for number in range(10_000):
        assert learner.own("b") is not None
        learner.learn(str(number), [])
    assert learner.own("b") is None


def test_what_is_read_of_a_mail_is_bounded() -> None:
    field = ("authentication-results", "mx.google.com; " + "dkim=pass reason=" + "x" * 999 + "; dkim=fail" * 9999)
    mail = gmail(*[field] * 9999)
    verdicts = read(mail, Own("authentication-results", ("google.com",), 2, 9999, above=False))
    assert len(verdicts.claims) == 20
    assert len(verdicts.results) < 20 * 65
    assert {len(result.reason) for result in verdicts.results} == {0, 200}
    assert read([("received", "by x")] * 1000 + gmail(), None).results == ()
