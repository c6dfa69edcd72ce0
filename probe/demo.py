"""`mailprobe demo`: the real daemon against the embedded provider, in one process; no account, no network, no traces.

Rule: everything is real but the network. The numbers shown are measured, not made up; only the provider is a toy.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from probe import daemon
from probe.core.settings import Account, Route, Secret, Server, Settings
from probe.provider import HOST, Behaviour, Hold, Provider

_SENDER = "probe@demo.invalid"
_EVERY = 2.0
STORIES = {
    "quick": ("delivers at once", Behaviour()),
    "slow": ("takes 1 to 3 s", Behaviour(delay=(1.0, 3.0))),
    "stuck": ("holds all mail for 20 s of every 60", Behaviour(hold=Hold(after=10.0, lasts=20.0, every=60.0))),
}


@asynccontextmanager
async def started(listen_host: str, listen_port: int) -> AsyncIterator[daemon.Running]:
    """The provider and a daemon that probes it, in a temporary directory; all gone at the end."""
    rng = random.Random()  # noqa: S311 - delays and phases
    addresses = {name: f"{name}@demo.invalid" for name in STORIES}
    users = dict.fromkeys([_SENDER, *addresses.values()], "demo")
    behaviours = {addresses[name]: behaviour for name, (_, behaviour) in STORIES.items()}
    with tempfile.TemporaryDirectory(prefix="mailprobe-demo-") as state_dir:
        async with Provider(users, behaviours, rng=rng) as provider:
            settings = _settings(provider, addresses, Path(state_dir), listen_host, listen_port)
            async with daemon.started(settings, lambda: settings, rng) as running:
                yield running


def _settings(provider: Provider, addresses: dict[str, str], state_dir: Path, host: str, port: int) -> Settings:
    smtp = Server(HOST, provider.smtp_port, "none")
    imap = Server(HOST, provider.imap_port, "none")
    accounts = {"sender": Account("sender", _SENDER, _SENDER, Secret("demo"), smtp=smtp)}
    accounts |= {name: Account(name, at, at, Secret("demo"), imap=imap) for name, at in addresses.items()}
    routes = {name: Route(name, "sender", name, _EVERY, (1.0, 10.0), 3600.0) for name in addresses}
    return Settings(accounts, routes, state_dir, host, port)
