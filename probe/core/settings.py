"""What a user can ask for, once it is known to be valid: frozen records, no parsing, no defaults from outside.

Rule: every duration is a float in seconds; whoever holds one of these records need not check it again.
`config/` is the only maker outside of tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Tls = Literal["implicit", "starttls", "none"]


class Secret:
    """A password or token that shows itself only to whoever calls reveal(): not to repr, str, logs or tracebacks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for the wire and nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(******)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens. `tls="none"` is plaintext and comes only from those very words in the configuration."""

    host: str
    port: int
    tls: Tls
    ca_file: Path | None = None  # trust this CA instead of the system's


@dataclass(frozen=True, slots=True)
class OAuth:
    """Where access tokens come from, for a log-in without password (RFC 6749 §6)."""

    token_url: str
    client_id: str
    refresh_token: Secret
    scope: str = ""  # "": what the refresh token was given for
    client_secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """How often a mailbox may be asked (NOOP) while a probe is expected; see core/asking.py."""

    floor: float = 0.05  # never two asks closer than this, in seconds
    budget: int = 60  # never more asks than this for one probe


@dataclass(frozen=True, slots=True)
class Account:
    """An address with a submission server and/or a mailbox. It has a password or oauth; with neither, SMTP goes
    without log-in."""

    name: str
    address: str
    username: str
    password: Secret | None = None
    smtp: Server | None = None
    imap: Server | None = None
    folders: tuple[str, ...] = ()  # folders to watch beside INBOX; empty: find the junk folder
    keep_mails: bool = False  # leave delivered probes in the mailbox
    asking: Asking = Asking()
    oauth: OAuth | None = None
    domains: tuple[str, ...] = ()  # under which the provider names its hosts, beside those of address, smtp and imap


@dataclass(frozen=True, slots=True)
class Route:
    """A named pair of accounts with a schedule, deadlines, and the age at which a probe counts as lost."""

    name: str
    sender: str  # name of an account with smtp
    recipient: str  # name of an account with imap
    every: float = 60.0
    deadlines: tuple[float, ...] = (30.0, 300.0)
    lost_after: float = 5 * 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished probes stay in the ledger. Those in flight always stay."""

    keep: float = 400 * 86400.0  # seconds since they were started
    max_size: int = 4_000_000_000  # octets of the ledger; beyond it the oldest finished ones go sooner


@dataclass(frozen=True, slots=True)
class Page:
    """The status page. `public`: it shows no address, host, account or reason, so that anybody may see it."""

    public: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `warnings` are lines for a person: things that work but should be mended."""

    accounts: dict[str, Account]
    routes: dict[str, Route]
    state_dir: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 10925
    retention: Retention = Retention()
    contact: str = ""  # whom the test mail tells its reader to ask
    warnings: tuple[str, ...] = field(default=(), compare=False)
    page: Page = Page()
