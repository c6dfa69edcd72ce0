"""The provider's mailboxes: pymap, in memory, with what it lacks. Sole importer of pymap."""

from __future__ import annotations

import asyncio
import ssl
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet
from pymap.concurrent import Event, Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.selected import SelectedMailbox
from pymap.user import UserMetadata
from pysasl import SASLAuth
from pysasl.hashing import Cleartext


class Mailboxes:
    """One per user (address → password, ASCII), each with INBOX and Junk."""

    def __init__(self, users: Mapping[str, str], host: str) -> None:
        self._folders = {user: _Folders() for user in users}
        login = Login(_Config(host))
        for user, password in users.items():
            login.users_dict[user] = UserMetadata(login.config, user, password=password)
            login.config.set_cache[user] = (self._folders[user], FilterSet())
        self._imap = IMAPServer(login, login.config)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        try:
            await self._imap(reader, writer, SocketInfo.get(writer, None))
        except RuntimeError:
            if not writer.is_closing():  # uvloop raises it when pymap says BYE to a connection that is gone
                raise

    async def append(self, address: str, folder: str, content: bytes, stored: float, copies: int = 1) -> None:
        """Here is new mail; `stored` is its INTERNALDATE (Unix time)."""
        mailbox = await self._folders[address].get_mailbox(folder)
        message = AppendMessage(content, datetime.fromtimestamp(stored, UTC))
        for _ in range(copies):
            await mailbox.append(message, recent=True)


class _Config(Config):
    """No password hashing (0.5 s of the loop), no look-ups of names, no certificates, no threads."""

    greeting = b"imap.demo.invalid ready"
    tls_auth = SASLAuth.defaults()  # once: it searches all installed packages

    def __init__(self, host: str) -> None:
        demo: dict[str, Any] = {"demo_data": False, "demo_user": "", "demo_password": ""}
        tls: dict[str, Any] = {"tls_enabled": False, "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}
        quick: dict[str, Any] = {"hash_context": Cleartext(), "cpu_subsystem": Subsystem.for_asyncio()}
        super().__init__(Namespace(proxy_protocol=None), host=host, port=0, **demo, **tls, **quick)


class _Folder(MailboxData):
    """Looks before it waits: pymap's IDLE forgets the mail that comes while it writes about the one before."""

    async def update_selected(self, selected: SelectedMailbox, *, wait_on: Event | None = None) -> SelectedMailbox:
        if selected.mod_sequence != self._mod_sequences.highest:
            wait_on = None
        return await super().update_selected(selected, wait_on=wait_on)


class _Folders(MailboxSet):
    def __init__(self) -> None:
        super().__init__()
        self._inbox, self._set["Junk"] = (_Folder(self._content_cache, self._thread_cache) for _ in range(2))
