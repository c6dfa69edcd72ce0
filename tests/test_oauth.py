"""Access tokens: got, kept, shown and refused, against scripted servers; and no secret in any text.

Rule: nothing here waits for time to pass but the tests of time limits themselves, and those for fractions of a second.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from probe.check import Finding, check
from probe.clock import now
from probe.core.events import Accepted, Arrived, Cursor, Failed, Sending, Submitted
from probe.core.settings import Account, OAuth, Route, Secret, Server, Settings
from probe.mail import imap_wire, net, watcher
from probe.mail.imap import AuthRefused, Connection, Lost
from probe.mail.oauth import NoToken, Tokens, read_answer, why_refused
from probe.mail.smtp import Submitter
from probe.mail.watcher import Watcher
from probe.once import once

from .bed.mailbed import MailBed, address
from .fake_imap import CAPABILITIES, XOAUTH2_REFUSAL, FakeImap, Handler, certificate
from .fake_smtp import HANG, FakeSmtp, Script
from .fake_tokens import CLIENT_SECRET, REFRESH, Answer, FakeTokens
from .loops import both_loops
from .make import FakeClock, Told

SHORT = 0.2  # seconds: a time limit that a test waits for
LIMIT = 5.0  # seconds: a test that takes this long hangs
USER = "probe@example.org"
GOOD = "ya29.a0Good-Token"
OFFERS = CAPABILITIES + b" AUTH=XOAUTH2"
SHOWN = base64.b64encode(f"user={USER}\x01auth=Bearer {GOOD}\x01\x01".encode())
CHALLENGE = base64.b64encode(XOAUTH2_REFUSAL)
INVALID_GRANT = (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})


@contextlib.asynccontextmanager
async def getting(
    *answers: Answer, clock: FakeClock | None = None, timeout: float = LIMIT, **options: object
) -> AsyncIterator[tuple[FakeTokens, Tokens]]:
    """A token server and the tokens of an account of it."""
    async with asyncio.timeout(LIMIT), FakeTokens(*answers, **options) as fake:  # type: ignore[arg-type]
        yield fake, Tokens(fake.oauth(), clock or FakeClock(), timeout)


async def no_token(tokens: Tokens) -> NoToken:
    with pytest.raises(NoToken) as caught:
        await tokens.get()
    return caught.value


# ---------------------------------------------------------------- getting a token


@both_loops
async def test_a_token_is_asked_for_by_the_refresh_token_and_kept_until_shortly_before_it_ends() -> None:
    clock = FakeClock()
    async with getting(clock=clock) as (fake, tokens):
        assert (await tokens.get()).reveal() == "access-1"
        assert fake.forms == [
            {
                "grant_type": "refresh_token",
                "refresh_token": REFRESH,
                "client_id": "us",
                "client_secret": CLIENT_SECRET,
                "scope": "mail",
            }
        ]
        clock.advance(3539)
        assert (await tokens.get()).reveal() == "access-1"
        clock.advance(2)
        assert (await tokens.get()).reveal() == "access-2"


async def test_scope_and_client_secret_are_said_only_if_they_are_there() -> None:
    async with FakeTokens() as fake:
        await Tokens(fake.oauth(scope="", client_secret=None), FakeClock()).get()
        assert fake.forms[0].keys() == {"grant_type", "refresh_token", "client_id"}


@pytest.mark.parametrize(("lasts", "kept"), [("3600", 3540), (80, 40), (None, 240), ("soon", 240), (0, 0), (-5, 240)])
async def test_a_life_is_believed_as_far_as_it_makes_sense(lasts: object, kept: float) -> None:
    clock = FakeClock()
    async with getting(clock=clock, lasts=lasts) as (fake, tokens):
        await tokens.get()
        clock.advance(max(0, kept - 1))
        await tokens.get()
        assert len(fake.forms) == (1 if kept else 2)
        clock.advance(2)
        await tokens.get()
        assert len(fake.forms) == (2 if kept else 3)


@both_loops
async def test_however_many_want_a_token_it_is_asked_for_once() -> None:
    async with getting() as (fake, tokens):
        assert {token.reveal() for token in await asyncio.gather(*(tokens.get() for _ in range(20)))} == {"access-1"}
        assert len(fake.forms) == 1


async def test_all_who_wait_hear_of_the_same_refusal_and_the_next_asks_again() -> None:
    async with getting(INVALID_GRANT) as (fake, tokens):
        heard = await asyncio.gather(*(tokens.get() for _ in range(5)), return_exceptions=True)
        assert [getattr(error, "reason", error) for error in heard] == ["token_refused"] * 5
        assert len(fake.forms) == 1
        assert (await tokens.get()).reveal() == "access-2"


async def test_who_goes_away_takes_the_token_from_nobody() -> None:
    async with getting() as (fake, tokens):
        fake.gate.clear()
        first, second = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
        await fake.asked.wait()
        first.cancel()
        fake.gate.set()
        assert (await second).reveal() == "access-1"
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_refused_token_is_replaced_and_an_old_refusal_does_not_cost_the_new_one() -> None:
    async with getting() as (fake, tokens):
        old = await tokens.get()
        tokens.refused(old)
        new = await tokens.get()
        tokens.refused(old)
        assert await tokens.get() == new != old
        assert len(fake.forms) == 2


async def test_a_newer_refresh_token_is_used_from_then_on() -> None:
    granted = {"access_token": "a", "token_type": "bearer", "expires_in": 3600, "refresh_token": "refresh-2"}
    async with getting((200, granted)) as (fake, tokens):
        tokens.refused(await tokens.get())
        tokens.refused(await tokens.get())
        await tokens.get()
        assert [form["refresh_token"] for form in fake.forms] == [REFRESH, "refresh-2", "refresh-2"]


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (INVALID_GRANT, "token_refused", "127.0.0.1 said 400: invalid_grant: Token has been expired or revoked."),
        ((401, {"error": "invalid_client"}), "token_refused", "127.0.0.1 said 401: invalid_client"),
        ((400, {"error": "server_error"}), "token_unavailable", "127.0.0.1 said 400: server_error"),
        ((429, b"slow down"), "token_unavailable", "127.0.0.1 said 429"),
        ((503, {"error": "invalid_grant"}), "token_unavailable", "127.0.0.1 said 503: invalid_grant"),
        ((404, b"<html>not here</html>"), "token_garbled", "127.0.0.1 said 404"),
        ((400, {"error": 7}), "token_garbled", "127.0.0.1 said 400"),
        ((200, b"\xff\xfe"), "token_garbled", "127.0.0.1 said 200 without a bearer token"),
        ((200, ["access_token"]), "token_garbled", "127.0.0.1 said 200 without a bearer token"),
        ((200, {"access_token": "a\x01b"}), "token_garbled", "127.0.0.1 said 200 without a bearer token"),
        ((200, {"access_token": "a", "token_type": "m"}), "token_garbled", "127.0.0.1 said 200 without a bearer token"),
        ((200, b"[" * 100_000), "token_garbled", "127.0.0.1 said 200 without a bearer token"),
        ((400, {"error": "a\r\nb\ud800"}), "token_refused", "127.0.0.1 said 400: a b?"),
    ],
)  # fmt: skip
@both_loops
async def test_whatever_goes_wrong_has_a_name_and_one_line(answer: Answer, reason: str, detail: str) -> None:
    async with getting(answer) as (_, tokens):
        error = await no_token(tokens)
        assert (error.reason, error.detail) == (reason, detail)
        assert error.for_good == (reason == "token_refused")
        assert (await tokens.get()).reveal() == "access-2"


@both_loops
async def test_a_token_server_that_does_not_answer_is_given_up_in_time() -> None:
    async with getting(None, timeout=SHORT) as (_, tokens):
        error = await no_token(tokens)
        assert (error.reason, error.detail) == ("token_timeout", "no answer from 127.0.0.1")
        assert not error.for_good


async def test_a_redirect_is_not_followed_with_the_refresh_token() -> None:
    async with FakeTokens() as other, getting(web.Response(status=307, headers={"Location": other.url})) as (_, tokens):
        assert (await no_token(tokens)).reason == "token_garbled"
        assert not other.forms


@both_loops
async def test_a_token_server_that_is_not_there_is_unreachable() -> None:
    error = await no_token(Tokens(OAuth("http://127.0.0.1:1/token", "us", Secret(REFRESH)), FakeClock(), LIMIT))
    assert error.reason == "token_unreachable"
    assert "127.0.0.1" in error.detail


@both_loops
async def test_the_token_server_is_only_talked_to_when_its_certificate_verifies(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path)
    async with FakeTokens(tls=context) as fake:
        tokens = Tokens(fake.oauth(), FakeClock(), LIMIT)
        error = await no_token(tokens)
        assert error.reason == "token_unreachable"
        assert "CERTIFICATE_VERIFY_FAILED" in error.detail
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(net, "tls_context", lambda _: ssl.create_default_context(cafile=ca))
            assert (await tokens.get()).reveal() == "access-1"


async def test_no_secret_that_a_token_server_repeats_gets_into_a_text() -> None:
    granted = {"access_token": "a", "refresh_token": "refresh-2", "expires_in": 0}
    echo = f"{REFRESH} refresh%2Bme%2Fplease%3D%3D refresh-2 {CLIENT_SECRET} client-hush%26hush"
    echo += " " + base64.b64encode(CLIENT_SECRET.encode()).decode()
    async with getting((200, granted), (400, {"error": echo, "error_description": echo})) as (_, tokens):
        await tokens.get()
        error = await no_token(tokens)
        text = f"{error} {error!r} {tokens!r} {error.detail} {tokens.oauth}"
        for secret in (*echo.split(), "hush"):
            assert secret not in text
        assert error.__cause__ is None


@given(st.integers(100, 599), st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["access_token", "token_type", "expires_in", "refresh_token", "error", "error_description"]),
        inner,
    ),
).map(lambda said: json.dumps(said).encode()))  # fmt: skip
def test_any_answer_is_a_token_or_a_named_reason(status: int, body: bytes) -> None:
    with contextlib.suppress(NoToken):
        granted = read_answer(status, body)
        assert granted.lasts >= 0


# ---------------------------------------------------------------- showing it to IMAP


@contextlib.asynccontextmanager
async def connected(
    handler: Handler | None = None, capabilities: bytes = OFFERS, timeout: float = LIMIT
) -> AsyncIterator[tuple[FakeImap, Connection]]:
    async with (
        asyncio.timeout(LIMIT),
        FakeImap(handler, capabilities=capabilities, tokens={USER: GOOD}) as fake,
        await Connection.open(fake.server(), clock=now, timeout=timeout) as line,
    ):
        yield fake, line


async def refused(line: Connection, token: str) -> AuthRefused:
    with pytest.raises(AuthRefused) as caught:
        await line.show_token(USER, Secret(token))
    return caught.value


def answering(*turns: bytes) -> Handler:
    """What follows AUTHENTICATE, line by line; TAG stands for its tag."""
    left, tags = list(turns), [b""]

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        tags[:] = [tag] if command == b"AUTHENTICATE" else tags
        ours = command in (b"AUTHENTICATE", b"")
        if ours and left:
            writer.write(left.pop(0).replace(b"TAG", tags[0]))
        return ours

    return handler


@both_loops
async def test_a_token_is_shown_in_one_line_where_sasl_ir_is_offered() -> None:
    async with connected() as (fake, line):
        await line.show_token(USER, Secret(GOOD))
        assert fake.lines[-2].partition(b" ")[2] == b"AUTHENTICATE XOAUTH2 " + SHOWN
        assert (await line.select("INBOX")).exists == 0


@both_loops
async def test_a_token_is_shown_when_asked_for_where_sasl_ir_is_not_offered() -> None:
    async with connected(capabilities=OFFERS.replace(b" SASL-IR", b"")) as (fake, line):
        await line.show_token(USER, Secret(GOOD))
        assert [said.partition(b" ")[2] or said for said in fake.lines[-3:-1]] == [b"AUTHENTICATE XOAUTH2", SHOWN]


@pytest.mark.parametrize("capabilities", [OFFERS, OFFERS.replace(b" SASL-IR", b"")])
@both_loops
async def test_the_reason_of_a_refusal_is_asked_for_by_an_empty_line_and_told(capabilities: bytes) -> None:
    """aioimaplib's own xoauth2() sends nothing, waits for another "+", and never sees the JSON."""
    async with connected(capabilities=capabilities) as (fake, line):
        error = await refused(line, "stale")
        assert (error.code, error.text) == ("AUTHENTICATIONFAILED", "Invalid credentials (status 400)")
        assert "google" not in str(error)
        assert fake.lines[-1] == b""
        await line.noop()  # the stream is still in step


@both_loops
async def test_a_refusal_without_a_reason_is_a_refusal() -> None:
    async with connected(answering(b"TAG NO AUTHENTICATE failed.\r\n")) as (_, line):  # Exchange Online
        assert (await refused(line, GOOD)).text == "AUTHENTICATE failed."


@both_loops
async def test_a_server_that_says_nothing_more_after_its_reason_does_not_hang_us() -> None:
    async with connected(answering(b"+ " + CHALLENGE + b"\r\n"), timeout=SHORT) as (fake, line):
        with pytest.raises(Lost) as caught:
            await line.show_token(USER, Secret(GOOD))
        assert caught.value.reason == "timeout"
        assert fake.lines[-1] == b""


async def test_nothing_is_sent_where_xoauth2_is_not_offered() -> None:
    async with connected(capabilities=CAPABILITIES) as (fake, line):
        assert "XOAUTH2 is not offered" in (await refused(line, GOOD)).text
        assert not any(b"AUTHENTICATE" in said for said in fake.lines)


async def test_a_token_that_the_server_repeats_is_struck() -> None:
    echo = base64.b64encode(json.dumps({"status": GOOD}).encode())
    repeats = answering(b"+ " + echo + b"\r\n", b"TAG NO " + GOOD.encode() + b" " + SHOWN + b"\r\n")
    async with connected(repeats) as (_, line):
        assert (await refused(line, GOOD)).text == "****** ****** (status ******)"


@pytest.mark.parametrize(
    ("challenge", "status"),
    [
        (CHALLENGE, "400"),
        (base64.b64encode(b'{"status":"invalid_token","scope":"mail"}'), "invalid_token"),
        (base64.b64encode(b'{"error":401}'), "401"),
        (base64.b64encode(b'{"status":"a\\r\\nb\\u0000"}'), "a b"),
        (base64.b64encode(b'{"status":{"a":1}}'), ""),
        (base64.b64encode(b"[]"), ""),
        (base64.b64encode(b"\xff"), ""),
        (b"not base64 at all", ""),
        (b"", ""),
    ],
)
def test_the_reason_is_the_status_alone(challenge: bytes, status: str) -> None:
    assert why_refused(challenge) == status


def test_the_library_does_not_log_a_token() -> None:
    assert any(isinstance(it, imap_wire._NoSecrets) for it in imap_wire.aioimaplib.log.filters)


# ---------------------------------------------------------------- showing it to SMTP


@contextlib.asynccontextmanager
async def submitting(
    script: Script | None = None, *answers: Answer, auth: str = "LOGIN PLAIN XOAUTH2", timeout: float = LIMIT
) -> AsyncIterator[tuple[FakeSmtp, FakeTokens, Submitter, FakeClock]]:
    clock = FakeClock()
    async with asyncio.timeout(LIMIT), FakeTokens(*answers) as fake, FakeSmtp(script, auth=auth) as server:
        account = Account("a", USER, USER, smtp=server.server(), oauth=fake.oauth())
        tokens = Tokens(fake.oauth(), clock, LIMIT)
        submitter = Submitter(account, clock, random.Random(1), timeout=timeout, tokens=tokens)
        yield server, fake, submitter, clock
        submitter.close()


async def submit(submitter: Submitter) -> Submitted:
    return await submitter.submit(Sending("p", now(), "r", now(), USER, USER), b"Subject: x\r\n\r\n")


def shown(server: FakeSmtp) -> list[str]:
    """The access tokens that it saw."""
    said = [base64.b64decode(line.split()[2]) for line in server.lines if line.startswith(b"AUTH XOAUTH2")]
    return [one.decode().partition("Bearer ")[2].rstrip("\x01") for one in said]


@both_loops
async def test_a_submission_shows_the_token_and_nothing_else() -> None:
    async with submitting() as (server, _, submitter, _):
        assert isinstance(await submit(submitter), Accepted)
        assert server.verbs[:2] == [b"EHLO", b"AUTH"]
        encoded = base64.b64encode(f"user={USER}\x01auth=Bearer access-1\x01\x01".encode())
        assert server.lines[1] == b"AUTH XOAUTH2 " + encoded


@pytest.mark.parametrize(
    "script",
    [
        {"AUTH": [f"334 {CHALLENGE.decode()}"], "AUTH2": ["535-5.7.8 not accepted.\r\n535 5.7.8 access-1"]},
        {"AUTH": ["535 5.7.3 Authentication unsuccessful"]},
    ],
    ids=["Gmail", "Microsoft"],
)
@both_loops
async def test_a_refused_token_is_shown_once_and_a_fresh_one_after_the_pause(script: Script) -> None:
    async with submitting(dict(script)) as (server, fake, submitter, clock):
        failed = await submit(submitter)
        assert isinstance(failed, Failed)
        assert (failed.stage, failed.reason) == ("auth", "auth_refused")
        assert failed.detail.startswith("535 5.7.")
        assert "access-1" not in failed.detail
        assert submitter.why_not() == "auth_backoff"
        assert len(fake.forms) == 1
        clock.advance(300)  # more than the pause, less than the life of the first
        assert isinstance(await submit(submitter), Accepted)
        assert shown(server) == ["access-1", "access-2"]
        if "AUTH2" in script:
            assert server.sessions[0].lines[-1] == b""


async def test_a_token_outlives_trouble_of_the_mail_server() -> None:
    async with submitting({"AUTH": ["454 4.7.0 later"]}) as (server, _, submitter, clock):
        assert isinstance(await submit(submitter), Failed)
        clock.advance(300)
        assert isinstance(await submit(submitter), Accepted)
        assert shown(server) == ["access-1", "access-1"]


async def test_a_server_that_says_nothing_after_the_challenge_is_a_timeout() -> None:
    script: Script = {"AUTH": f"334 {CHALLENGE.decode()}", "AUTH2": HANG}
    async with submitting(script, timeout=SHORT) as (_, _, submitter, _):
        failed = await submit(submitter)
        assert isinstance(failed, Failed)
        assert (failed.stage, failed.reason) == ("auth", "timeout")


async def test_no_password_mechanism_is_used_instead() -> None:
    async with submitting(auth="PLAIN LOGIN") as (server, _, submitter, _):
        failed = await submit(submitter)
        assert isinstance(failed, Failed)
        assert failed.reason == "no_auth_mechanism"
        assert b"AUTH" not in server.verbs


@pytest.mark.parametrize(
    ("answer", "reason", "pause"), [(INVALID_GRANT, "token_refused", 60), ((503, b""), "token_unavailable", 2.4)]
)
async def test_without_a_token_nobody_is_connected_to_and_the_pause_says_why(
    answer: Answer, reason: str, pause: float
) -> None:
    async with submitting(None, answer) as (server, _, submitter, clock):
        failed = await submit(submitter)
        assert isinstance(failed, Failed)
        assert (failed.stage, failed.reason) == ("auth", reason)
        assert not server.connections
        clock.advance(pause)
        assert submitter.why_not() == "auth_backoff"
        clock.advance(pause * 4)
        assert submitter.why_not() is None
        assert isinstance(await submit(submitter), Accepted)


async def test_a_long_token_that_a_server_repeats_is_struck_before_the_text_is_shortened() -> None:
    token = "t0ken" * 300
    granted = {"access_token": token, "expires_in": 3600}

    def echo() -> str:
        return "535 " + " ".join(line.decode() for line in server.lines if b"AUTH" in line) + " " + token

    async with submitting({"AUTH": echo}, (200, granted)) as (server, _, submitter, _):
        failed = await submit(submitter)
        assert isinstance(failed, Failed)
        assert failed.detail == "535 AUTH XOAUTH2 ****** ******"


# ---------------------------------------------------------------- both wires together


@pytest.fixture
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    def backoff(rng: random.Random, first: float, longest: float) -> Iterator[float]:
        while True:
            yield first / 10_000

    monkeypatch.setattr(watcher, "backoff", backoff)


class Blind:
    """A recorder for a mailbox in which nothing happens."""

    def arrived(self, event: Arrived) -> None:
        raise AssertionError

    def read_up_to(self, cursor: Cursor) -> None:
        pass


@pytest.mark.usefixtures("_quick_pauses")
@both_loops
async def test_a_mailbox_comes_up_with_a_fresh_token_after_one_was_refused() -> None:
    told = Told()
    downs: list[tuple[str, str, float]] = []
    up = asyncio.Event()
    told.mailbox_down = lambda account, reason, text, delay: downs.append((reason, text, delay))  # type: ignore[method-assign]
    told.mailbox_up = lambda account: up.set()  # type: ignore[method-assign]
    async with (
        asyncio.timeout(LIMIT),
        FakeTokens(INVALID_GRANT, (503, b"")) as tokens,
        FakeImap(capabilities=OFFERS, tokens={USER: "access-4"}) as fake,
    ):
        account = Account("a", USER, USER, imap=fake.server(), oauth=tokens.oauth())
        watching = asyncio.create_task(
            Watcher(
                account,
                Blind(),
                told,
                now,
                random.Random(1),
                recognise=lambda raw: None,
                worth_reading=lambda head: False,
                tokens=Tokens(tokens.oauth(), now),
            ).run()
        )
        await up.wait()
        watching.cancel()
        await asyncio.wait([watching])
    long, short = 120 / 10_000, 2 / 10_000
    assert [(reason, delay) for reason, _, delay in downs] == [
        ("token_refused", long),
        ("token_unavailable", short),
        ("auth_refused", long),
    ]
    assert "invalid_grant" in downs[0][1]
    assert "status 400" in downs[2][1]
    assert len(tokens.forms) == 4


async def test_one_probe_goes_round_with_one_token_for_all_connections(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(LIMIT),
        FakeTokens() as tokens,
        FakeImap(capabilities=OFFERS, tokens={USER: "access-1"}) as mailbox,
    ):

        def deliver() -> None:
            asyncio.get_running_loop().call_soon(lambda: mailbox.append(server.messages[-1]))

        async with FakeSmtp({"DOT": deliver}, auth="XOAUTH2") as server:
            account = Account("a", USER, USER, None, server.server(), mailbox.server(), oauth=tokens.oauth())
            route = Route("r", "a", "a")
            result = await once(Settings({"a": account}, {"r": route}, tmp_path), route, LIMIT, lambda step: None)
    assert (result.verdict, len(tokens.forms)) == ("ok", 1)


def real_account(bed: MailBed, user: str, oauth: OAuth) -> Account:
    smtp = Server("127.0.0.1", bed.ports["submission"], "starttls", bed.pki.ca)
    imap = Server("127.0.0.1", bed.ports["imaps"], "implicit", bed.pki.ca)
    return Account(user, address(user), address(user), None, smtp, imap, oauth=oauth)


@both_loops
async def test_postfix_and_dovecot_take_a_token(bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path) -> None:
    user = fresh_user()
    granted = {"access_token": bed.dovecot.access_token(user), "expires_in": 3600}
    async with asyncio.timeout(2 * LIMIT), FakeTokens((200, granted)) as tokens:
        account, route = real_account(bed, user, tokens.oauth()), Route("r", user, user)
        result = await once(Settings({user: account}, {"r": route}, tmp_path), route, LIMIT, lambda step: None)
        await asyncio.sleep(0)  # a closed transport of uvloop ends in the loop's next round
    assert result.verdict == "ok"


@pytest.mark.parametrize("lasts", [-60.0, 60.0], ids=["has ended", "somebody else's"])
async def test_postfix_and_dovecot_explain_why_they_take_no_token(
    lasts: float, bed: MailBed, fresh_user: Callable[[], str]
) -> None:
    user, other = fresh_user(), fresh_user()
    token = bed.dovecot.access_token(user if lasts < 0 else other, lasts)
    granted = (200, {"access_token": token, "expires_in": 3600})
    async with FakeTokens(granted, granted) as tokens:
        smtp, imap = await findings(real_account(bed, user, tokens.oauth()))
    assert "auth: access token refused (535 5.7.8 " in smtp.text
    assert "access token refused (AUTHENTICATE refused: [AUTHENTICATIONFAILED] " in imap.text
    assert "(status 401)" in imap.text
    assert token not in smtp.text + imap.text


async def findings(account: Account) -> list[Finding]:
    async with asyncio.timeout(LIMIT):
        return [finding async for finding in check(account)]


async def test_check_says_in_words_that_a_refresh_token_is_refused() -> None:
    nowhere = Server("127.0.0.1", 1, "none")
    async with FakeTokens(INVALID_GRANT, INVALID_GRANT) as tokens:
        account = Account("a", USER, USER, None, nowhere, nowhere, oauth=tokens.oauth())
        smtp, imap = await findings(account)
    said = (
        "token refused (127.0.0.1 said 400: invalid_grant: Token has been expired or revoked.); "
        "the refresh token must be got anew from the provider, or client_id and client_secret are wrong"
    )
    assert (smtp.level, smtp.text) == ("bad", f"SMTP 127.0.0.1:1: auth: {said}")
    assert (imap.level, imap.text) == ("bad", f"IMAP 127.0.0.1:1: log-in: {said}")


async def test_check_says_in_words_that_an_access_token_is_refused() -> None:
    async with (
        FakeTokens() as tokens,
        FakeImap(capabilities=OFFERS) as mailbox,
        FakeSmtp({"AUTH": f"334 {CHALLENGE.decode()}", "AUTH2": "535 5.7.8 no"}, auth="XOAUTH2") as server,
    ):
        account = Account("a", USER, USER, None, server.server(), mailbox.server(), oauth=tokens.oauth())
        smtp, imap = await findings(account)
        assert len(tokens.forms) == 2  # the first was dropped when SMTP did not take it
    mend = "is it for this username, with a scope for IMAP and SMTP, and does the account allow both?"
    assert smtp.text.endswith(f"auth: access token refused (535 5.7.8 no); {mend}")
    assert "access token refused (AUTHENTICATE refused: [AUTHENTICATIONFAILED] Invalid" in imap.text
    assert imap.text.endswith(f"credentials (status 400)); {mend}")


async def test_check_is_content_with_a_token_that_works() -> None:
    async with (
        FakeTokens() as tokens,
        FakeImap(capabilities=OFFERS.replace(b" UIDPLUS", b""), tokens={USER: "access-1"}) as mailbox,
        FakeSmtp(auth="XOAUTH2") as server,
    ):
        account = Account("a", USER, USER, None, server.server(), mailbox.server(), oauth=tokens.oauth())
        found = await findings(account)
        assert len(tokens.forms) == 1
    assert sum("logged in" in finding.text for finding in found) == 2
    assert not [finding for finding in found if finding.level == "bad"]
