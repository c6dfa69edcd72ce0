"""Access tokens for providers that take no passwords: got with a refresh token (RFC 6749 §6), shown by XOAUTH2.

Rules:
- However many want a token, it is asked for once, and kept until shortly before it ends.
- Every await ends within the time limit; whatever goes wrong is a NoToken.
- No secret in any text, also not as a server repeats it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote_plus, urlsplit

from probe.core.events import Instant, elapsed
from probe.core.reply import one_line
from probe.core.settings import OAuth, Secret
from probe.mail import net

_MARGIN = 60.0  # seconds before its end in which a token is not used any more: log-ins take time
_UNKNOWN_LIFE = 300.0  # seconds, where the server does not say (RFC 6749 §5.1 only recommends that it does)
_LONGEST_ANSWER = 65536  # octets; real ones have 2 to 5 thousand

Reason = Literal["token_refused", "token_unavailable", "token_timeout", "token_unreachable", "token_garbled"]


class NoToken(Exception):
    """No access token was to be had. `reason` is a label; only token_refused is for good, and takes a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.replace('_', ' ')}: {detail}")
        self.reason: Reason = reason
        self.detail = detail

    @property
    def for_good(self) -> bool:
        """Whether asking again soon is useless."""
        return self.reason == "token_refused"


@dataclass(frozen=True, slots=True)
class Granted:
    """What the token server gave; `lasts` is in seconds from the request."""

    token: Secret
    lasts: float
    refresh_token: Secret | None  # to be used from now on (RFC 6749 §6)


class Tokens:
    """The access tokens of one account, for both of its wires."""

    def __init__(self, oauth: OAuth, clock: Callable[[], Instant], timeout: float = 30.0) -> None:
        self.oauth = oauth
        self._clock = clock
        self._timeout = timeout
        self._refresh_token = oauth.refresh_token
        self._token: Secret | None = None
        self._until = clock()
        self._asking: asyncio.Task[Secret] | None = None

    async def get(self) -> Secret:
        """A token that is good for a while. Raises NoToken."""
        if self._token and elapsed(self._clock(), self._until) > 0:
            return self._token
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)  # the others wait for it, too

    def refused(self, token: Secret) -> None:
        """A mail server did not take this token: the next get() asks for another."""
        if self._token == token:
            self._token = None

    def _asked(self, task: asyncio.Task[Secret]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # who waited may be gone: nobody else will look at it

    async def _ask(self) -> Secret:
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await _post(self.oauth.token_url, self._form())
        except TimeoutError:
            raise NoToken("token_timeout", f"no answer from {self._host}") from None
        except Exception as error:  # noqa: BLE001 - aiohttp's own, OSError, ssl.SSLError: none of them brings a token
            raise NoToken("token_unreachable", self._clean(f"{self._host}: {type(error).__name__} {error}")) from None
        try:
            granted = read_answer(status, body)
        except NoToken as error:
            raise NoToken(error.reason, self._clean(f"{self._host} said {error.detail}")) from None
        self._token = granted.token
        self._until = began.shifted(granted.lasts - min(_MARGIN, granted.lasts / 2))
        self._refresh_token = granted.refresh_token or self._refresh_token
        return granted.token

    @property
    def _host(self) -> str:
        return urlsplit(self.oauth.token_url).hostname or ""

    def _form(self) -> dict[str, str]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token.reveal(),
            "client_id": self.oauth.client_id,
        }
        if self.oauth.client_secret:
            form["client_secret"] = self.oauth.client_secret.reveal()
        if self.oauth.scope:
            form["scope"] = self.oauth.scope
        return form

    def _clean(self, text: str) -> str:
        """A server may repeat what it heard."""
        secrets = (self._refresh_token, self.oauth.refresh_token, self.oauth.client_secret)
        return strike(text, *(secret.reveal() for secret in secrets if secret))


async def _post(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """POST a form; the status and the body. Redirects are not followed: the refresh token is for that host alone."""
    # Here, because it takes as long to load as all the rest, and most accounts have passwords.
    import aiohttp  # noqa: PLC0415

    body = bytearray()
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=net.tls_context(None), force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's
            headers={"Accept": "application/json"},
        ) as session,
        session.post(url, data=form, allow_redirects=False) as response,
    ):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _LONGEST_ANSWER:
                break
    return response.status, bytes(body)


def read_answer(status: int, body: bytes) -> Granted:
    """A token server's answer (RFC 6749 §5.1, §5.2). Raises NoToken with its words, which may hold anything."""
    try:
        said = json.loads(body) if len(body) <= _LONGEST_ANSWER else None
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    if status >= 500 or status in (408, 429) or said.get("error") in ("temporarily_unavailable", "server_error"):
        raise NoToken("token_unavailable", _words(status, said))
    if status != 200:
        raise NoToken("token_refused" if isinstance(said.get("error"), str) else "token_garbled", _words(status, said))
    token = _token(said.get("access_token"))
    if token is None or str(said.get("token_type", "bearer")).lower() != "bearer":
        raise NoToken("token_garbled", "200 without a bearer token")
    return Granted(token, _seconds(said.get("expires_in")), _token(said.get("refresh_token")))


def _words(status: int, said: Mapping[str, Any]) -> str:
    words = [said.get(key) for key in ("error", "error_description")]
    return ": ".join([str(status), *(word for word in words if isinstance(word, str))])


def _token(value: object) -> Secret | None:
    """RFC 6749 appendix A.12, without the space, which no header could carry."""
    found = isinstance(value, str) and re.fullmatch(r"[!-~]{1,20000}", value)
    return Secret(found[0]) if found else None


def _seconds(value: object) -> float:
    """expires_in is a number; some servers put it in quotes."""
    digits = re.fullmatch(r"[0-9]{1,9}", str(value))
    return float(digits[0]) if digits else _UNKNOWN_LIFE


def xoauth2(username: str, token: str) -> bytes:
    """The one message of XOAUTH2 (https://developers.google.com/gmail/imap/xoauth2-protocol), not yet in base64."""
    return f"user={username}\x01auth=Bearer {token}\x01\x01".encode()


def why_refused(challenge: bytes) -> str:
    """The status in the JSON by which a server explains a refused XOAUTH2 or OAUTHBEARER (RFC 7628 §3.2.2); "" if none.

    Not its scope and schemes: they say nothing about this refusal.
    """
    try:
        said = json.loads(base64.b64decode(challenge[:_LONGEST_ANSWER]))
    except (ValueError, RecursionError):
        return ""
    status = said.get("status") or said.get("error") if isinstance(said, dict) else None
    return one_line(str(status))[:40] if isinstance(status, str | int) else ""


def strike(text: str, *secrets: str) -> str:
    """Text on one line without these secrets, also not as forms and SASL write them."""
    for secret in filter(None, secrets):
        for form in (secret, quote_plus(secret), base64.b64encode(secret.encode()).decode()):
            text = text.replace(form, "******")
    return one_line(text)
