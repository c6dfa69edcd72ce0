"""What servers say when they refuse, and the one word that we make of it.

Rule: the texts are those that servers send (from their sources, their documentation, and logs), with neutral addresses.
"""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.events import Reply, Stage
from probe.core.reply import Reason, parse_reply, refusal, trouble

from .make import deferred, failed, rejected, unconfirmed

SAID: list[tuple[Reason, int, str]] = [
    # greylisting
    (
        "greylisted",
        450,
        "4.2.0 <b@bed.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/bed.test.html",
    ),
    ("greylisted", 450, "4.7.1 <b@bed.test>: Recipient address rejected: Greylisted for 5 minutes"),  # sqlgrey
    ("greylisted", 451, "4.7.1 Greylisting in action, please come back in 00:05:00"),  # milter-greylist
    ("greylisted", 451, "4.7.1 Try again later"),  # rspamd
    ("greylisted", 451, "Temporary greylist, please try again later"),  # Exim
    ("greylisted", 451, "192.0.2.1 is not yet authorized to deliver mail from <a@bed.test> to <b@bed.test>."),
    # too much
    ("rate_limited", 450, "4.7.1 Error: too much mail from 192.0.2.1"),  # Postfix
    ("rate_limited", 421, "4.7.0 mx.bed.test Error: too many connections from 192.0.2.1"),
    ("rate_limited", 421, "Too many concurrent SMTP connections; please try again later."),  # Exim
    ("rate_limited", 451, "4.7.1 Ratelimit \"user\" exceeded"),  # rspamd
    ("rate_limited", 450, "4.7.1 <b@bed.test>: Recipient address rejected: Policy Rejection- Quota Exceeded."),
    (
        "rate_limited",
        421,
        "4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address. To protect "
        "our users from spam, mail sent from your IP address has been temporarily rate limited.",
    ),
    ("rate_limited", 421, "4.7.0 Our system has detected an unusual rate of unsolicited mail"),
    (
        "rate_limited",
        450,
        "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from "
        "being delivered.",
    ),
    ("rate_limited", 450, "4.2.1 The user you are trying to contact is receiving mail too quickly."),
    ("rate_limited", 550, "5.4.5 Daily user sending limit exceeded."),
    ("rate_limited", 550, "5.4.5 Daily SMTP relay limit exceeded for user."),
    ("rate_limited", 432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),  # Exchange Online
    (
        "rate_limited",
        554,
        "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; the sender's submission quota was "
        "exceeded",
    ),
    ("rate_limited", 550, "5.7.705 Access denied, tenant has exceeded threshold"),
    (
        "rate_limited",
        451,
        "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
    ),
    ("rate_limited", 421, "RP-001 The mail server IP connecting to Outlook.com has exceeded the rate limit allowed"),
    (
        "rate_limited",
        421,
        "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - "
        "4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
    ),
    ("rate_limited", 450, "Requested mail action not taken: mailbox unavailable Mail send limit exceeded."),  # GMX
    ("rate_limited", 550, "5.7.1 Your mail limit has been reached."),  # StartMail
    ("rate_limited", 454, "4.7.0 Throttling failure: Maximum sending rate exceeded."),  # Amazon SES
    ("rate_limited", 454, "4.7.0 Throttling failure: Daily message quota exceeded."),
    # full
    ("over_quota", 452, "4.2.2 The email account that you tried to reach is over quota and inactive."),  # Gmail
    ("over_quota", 552, "5.2.2 The recipient's inbox is out of storage space."),
    ("over_quota", 554, "5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException"),
    ("over_quota", 552, "5.2.2 <b@bed.test> Quota exceeded (mailbox for user is full)"),  # Dovecot
    ("over_quota", 452, "Mailbox size limit exceeded"),
    ("over_quota", 552, "Requested mail action aborted: exceeded storage allocation"),  # GMX, IONOS
    ("over_quota", 550, "User has too many messages on server"),
    ("over_quota", 554, "Permission denied. Command output: maildrop: maildir over quota"),
    ("over_quota", 552, "no"),  # RFC 5321: exceeded storage allocation
    # big
    ("message_too_big", 552, "5.3.4 Message size exceeds fixed limit"),  # Postfix
    ("message_too_big", 552, "5.3.4 Your message exceeded Google's message size limits."),
    ("message_too_big", 552, "Message size exceeds maximum permitted"),  # Exim
    ("message_too_big", 550, "5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient"),  # Exchange
    ("message_too_big", 554, "Message too big"),
    # nobody
    ("no_such_user", 550, "5.1.1 <b@bed.test>: Recipient address rejected: User unknown in virtual mailbox table"),
    ("no_such_user", 550, "5.1.1 The email account that you tried to reach does not exist."),  # Gmail
    ("no_such_user", 550, "5.2.1 The email account that you tried to reach is inactive."),
    ("no_such_user", 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),
    ("no_such_user", 550, "5.4.1 Recipient address rejected: Access denied. AS(201806281)"),  # Exchange Online
    ("no_such_user", 550, "Requested action not taken: mailbox unavailable"),  # GMX, IONOS
    ("no_such_user", 554, "delivery error: dd This user doesn't have a yahoo.com account (b@bed.test) [-5]"),
    ("no_such_user", 550, "Unrouteable address"),  # Exim
    ("no_such_user", 550, "5.2.1 no"),
    # content
    ("spam", 554, "5.7.1 Spam message rejected"),  # rspamd
    ("spam", 550, "This message scored 15.2 spam points."),
    ("spam", 550, "5.7.1 [192.0.2.1] Our system has detected that this message is likely unsolicited mail."),  # Gmail
    ("spam", 550, "5.7.501 Service unavailable, Client host blocked due to spam abuse detected"),  # Exchange Online
    # who we are, and where from
    ("policy", 554, "5.7.1 <b@bed.test>: Relay access denied"),
    ("policy", 553, "5.7.1 <a@bed.test>: Sender address rejected: not owned by user c@bed.test"),
    ("policy", 550, "5.7.26 This mail has been blocked because the sender is unauthenticated."),  # Gmail
    ("policy", 554, "Message not allowed - [PH01] Email not accepted for policy reasons"),  # Yahoo
    (
        "policy",
        554,
        "gmx.net (mxgmx104) Nemesis ESMTP Service not available No SMTP service IP address is block listed. For "
        "explanation visit https://postmaster.gmx.net/en/case?c=r0201",
    ),
    ("policy", 450, "4.7.1 Client host rejected: cannot find your reverse hostname"),
    ("policy", 550, "relay not permitted"),  # Exim
    ("policy", 530, "5.7.0 Must issue a STARTTLS command first"),
    ("policy", 550, "5.7.1 no"),
    # themselves
    ("service_unavailable", 421, "4.3.2 mx.bed.test Service not available, closing transmission channel"),
    ("service_unavailable", 451, "4.3.0 Error: queue file write error"),  # Postfix
    ("service_unavailable", 452, "4.3.1 Insufficient system storage"),
    ("service_unavailable", 452, "4.3.1 Insufficient system resources (TSTI1)"),  # Exchange
    ("service_unavailable", 451, "4.7.500 Server busy. Please try again later from 192.0.2.1"),  # Exchange Online
    ("service_unavailable", 451, "4.7.1 Service unavailable - try again later"),  # Postfix, for a milter
    ("service_unavailable", 450, "Resources temporarily restricted"),  # Yahoo
    ("service_unavailable", 452, "space shortage, please try later"),  # Exim
    ("service_unavailable", 451, "Temporary local problem - please try later"),
    ("service_unavailable", 421, "bye"),
    # nothing that we know
    ("other", 500, "5.5.2 what?"),
    ("other", 550, "no"),
    ("other", 450, "not now"),
    ("other", 450, "Requested mail action not taken: mailbox unavailable"),
    ("other", 554, "Transaction failed"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "code", "text"), SAID, ids=[f"{code} {text[:40]}" for _, code, text in SAID])
def test_what_servers_say_has_one_name(reason: Reason, code: int, text: str) -> None:
    assert refusal("data", parse_reply(code, text)) == reason


@pytest.mark.parametrize("text", ["454 4.7.0 TLS not available due to temporary reason", "502 5.5.1 not implemented"])
def test_a_refusal_of_tls_has_a_name_of_its_own(text: str) -> None:
    reply = parse_reply(int(text[:3]), text[4:])
    assert refusal("tls", reply) == "starttls_refused"
    assert refusal("envelope", reply) != "starttls_refused"


def test_the_greeting_of_a_port_with_tls_is_no_refusal_of_tls() -> None:
    assert refusal("tls", parse_reply(421, "4.3.2 shutting down")) == "service_unavailable"


@pytest.mark.parametrize(
    "word", ["<spam@bed.test>", "greylist@bed.test", "<over-quota@bed.test>:", "https://a.test/?p=spam"]
)
def test_words_in_addresses_and_links_name_no_reason(word: str) -> None:
    assert refusal("envelope", parse_reply(554, f"{word} Transaction failed")) == "other"


def test_what_ended_a_submission_is_a_stage_and_a_reason() -> None:
    assert trouble(deferred()) == ("envelope", "greylisted")
    assert trouble(rejected()) == ("data", "no_such_user")
    assert trouble(failed()) == ("connect", "refused")
    assert trouble(unconfirmed()) == ("data", "lost")


@given(st.sampled_from(get_args(Stage)), st.integers(400, 599), st.text(), st.from_regex(r"([45]\.\d{1,3}\.\d{1,3})?"))
def test_whatever_a_server_says_the_reason_is_one_of_ours(stage: Stage, code: int, text: str, status: str) -> None:
    assert refusal(stage, Reply(code, status, text)) in get_args(Reason)


def test_every_reason_has_a_text_that_leads_to_it() -> None:
    assert {reason for reason, _, _ in SAID} | {"starttls_refused"} == {*get_args(Reason)}
