"""A token endpoint (RFC 6749 §5) on 127.0.0.1 that says what a test tells it to.

Rule: left alone it is honest, and gives a new token at every request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from aiohttp import web

from probe.core.settings import OAuth, Secret

REFRESH, CLIENT_SECRET = "refresh+me/please==", "client-hush&hush"

Answer = tuple[int, object] | web.Response | None  # None: hang until the client goes away


class FakeTokens:
    """`async with FakeTokens() as fake`, then `Tokens(fake.oauth(), …)`.

    `answers` are taken one per request, then honesty: (status, JSON or bytes), a response, or None to hang.
    """

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None, lasts: object = 3600) -> None:
        self.answers, self.tls, self.lasts = list(answers), tls, lasts
        self.forms: list[Mapping[str, str]] = []  # of every request
        self.gate = asyncio.Event()  # requests wait for it
        self.gate.set()
        self.asked = asyncio.Event()
        self.url = ""

    def oauth(self, **changes: object) -> OAuth:
        usual = {"scope": "mail", "client_secret": Secret(CLIENT_SECRET)}
        return OAuth(self.url, "us", Secret(REFRESH), **(usual | changes))  # type: ignore[arg-type]

    async def __aenter__(self) -> FakeTokens:
        app = web.Application()
        app.router.add_post("/token", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{port}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.forms.append({key: str(value) for key, value in (await request.post()).items()})
        self.asked.set()
        await self.gate.wait()
        if not self.answers:
            token = f"access-{len(self.forms)}"
            return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.lasts})
        match self.answers.pop(0):
            case None:
                await asyncio.Event().wait()
                raise AssertionError
            case (int() as status, bytes() as body):
                return web.Response(status=status, body=body)
            case (int() as status, said):
                return web.json_response(said, status=status)
            case web.Response() as response:
                return response
        raise AssertionError
