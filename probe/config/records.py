"""From the document to the records of core/settings.py. Rule: secrets are read here, and never enter a model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probe.config.notes import Key, Notes, credential_for, instead, three_places
from probe.config.tables import AccountTable, Document, Preset, RouteTable, ServerTable, presets
from probe.core.settings import Account, Asking, OAuth, Page, Retention, Route, Secret, Server, Settings, Tls

PORTS: dict[str, dict[Tls, int]] = {
    "smtp": {"implicit": 465, "starttls": 587, "none": 25},  # RFC 8314, RFC 6409, RFC 5321
    "imap": {"implicit": 993, "starttls": 143, "none": 143},
}
_WRITE_OAUTH = 'write oauth = { client_id = "…" }'


@dataclass
class Maker:
    """Makes the records out of a document of the right shape; what does not fit together goes to `notes`."""

    document: Document
    environ: Mapping[str, str]
    directory: Path  # of the configuration file: relative paths start here
    variables: Mapping[Key, str]  # secret -> environment variable with it
    credentials: Mapping[Key, Path]  # secret -> credential file
    notes: Notes

    def settings(self) -> Settings:
        accounts = {name: self._account(name, table) for name, table in self.document.accounts.items()}
        routes = {name: self._route(name, table, accounts) for name, table in self.document.routes.items()}
        for kind, found in ("accounts", accounts), ("routes", routes):
            if not found:
                self.notes.wrong((kind,), f"there are none; write [{kind}.NAME]")
        sends: dict[str, list[Route]] = {name: [] for name in accounts}
        for route in routes.values():
            sends.setdefault(route.sender, []).append(route)
        receives = {route.recipient for route in routes.values()}
        for name in accounts:
            if not sends[name] and name not in receives:
                self.notes.warn(("accounts", name), "no route uses it; write a route or remove the account")
            self._check_limit(name, sends[name])
        host, port = self.document.listen
        return Settings(
            accounts, routes, self._state_dir(), host, port, self._retention(routes), self.document.contact,
            tuple(self.notes.warnings), Page(self.document.page.public),
        )  # fmt: skip

    def _retention(self, routes: Mapping[str, Route]) -> Retention:
        table = self.document.ledger
        longest = max(routes.values(), key=lambda route: route.lost_after, default=None)
        if longest and table.keep < longest.lost_after + 86400.0:
            problem = f"is not a day longer than lost_after of route {longest.name}: a mail found late would be unknown"
            self.notes.wrong(("ledger", "keep"), f"{problem}; raise it")
        return Retention(table.keep, table.max_size)

    def _account(self, name: str, table: AccountTable) -> Account:
        preset = None
        if table.provider is not None:
            preset = presets().get(table.provider)
            if not preset:
                problem = f"unknown provider {json.dumps(table.provider)}{instead(table.provider, presets())}"
                self.notes.wrong(("accounts", name, "provider"), problem)
        elif not table.smtp and not table.imap:
            self.notes.wrong(("accounts", name), "has no server; write provider, smtp or imap")
        smtp = self._server(name, "smtp", table.smtp or (preset.smtp if preset else None))
        imap = self._server(name, "imap", table.imap or (preset.imap if preset else None))
        oauth = self._oauth(name, table, preset)
        password = self._password(name, table, preset, needed=imap is not None)
        for wire, server in ("smtp", smtp), ("imap", imap):
            if server and server.tls == "none" and (password or oauth):
                key, what = ("accounts", name, wire, "tls"), "password" if password else "access token"
                self.notes.warn(key, f'"none" sends the {what} in clear; write "implicit" or "starttls"')
        domains = [*table.domains, *(preset.domains if preset else ())]
        asking = Asking(table.asking.floor, table.asking.budget)
        return Account(
            name, table.address, table.username or table.address, password, smtp, imap,
            tuple(table.folders), table.keep_mails, asking, oauth, tuple(domain.lower() for domain in domains),
        )  # fmt: skip

    def _server(self, name: str, wire: str, table: ServerTable | None) -> Server | None:
        if not table:
            return None
        ca_file = self._path(table.ca_file) if table.ca_file else None
        if ca_file:
            try:
                ca_file.open("rb").close()
            except OSError as error:
                self.notes.wrong(("accounts", name, wire, "ca_file"), _unreadable(error))
        return Server(table.host, table.port or PORTS[wire][table.tls], table.tls, ca_file)

    def _oauth(self, name: str, table: AccountTable, preset: Preset | None) -> OAuth | None:
        """How to get access tokens; None without an oauth table, or with a mistake."""
        key = ("accounts", name)
        if table.oauth is None:
            for kind in ("refresh_token", "client_secret"):
                if places := self._places(name, table, kind):
                    problem = (
                        f"is given by {' and by '.join(places)} without an oauth table; {_WRITE_OAUTH} or remove it"
                    )
                    self.notes.wrong((*key, kind), problem)
            return None
        usual = preset.oauth if preset else None
        token_url = table.oauth.token_url or (usual.token_url if usual else "")
        if not token_url:
            self.notes.wrong(
                (*key, "oauth", "token_url"), "is missing, and no provider is named that has one; write it"
            )
        scope = table.oauth.scope if table.oauth.scope is not None else usual.scope if usual else ""
        refresh_token = self._secret(name, table, "refresh_token", needed_by="oauth")
        client_secret = self._secret(name, table, "client_secret")
        if not token_url or not refresh_token:
            return None
        return OAuth(token_url, table.oauth.client_id, refresh_token, scope, client_secret)

    def _password(self, name: str, table: AccountTable, preset: Preset | None, needed: bool) -> Secret | None:
        """The password; None means: by OAuth, or do not log in."""
        if table.oauth:
            if places := self._places(name, table, "password"):
                problem = f"is given by {' and by '.join(places)} beside oauth; keep one of the two"
                self.notes.wrong(("accounts", name, "password"), problem)
            return None
        if preset and not preset.passwords:
            problem = f"is missing, and {table.provider} takes no passwords; {_WRITE_OAUTH}"
            self.notes.wrong(("accounts", name, "oauth"), problem)
            return None
        return self._secret(name, table, "password", needed_by="IMAP" if needed else "")

    def _places(self, name: str, table: AccountTable, kind: str) -> dict[str, Path | None]:
        """Where this secret was found: a file, or None for the environment variable of that name."""
        key, places = ("accounts", name, kind), dict[str, Path | None]()
        if key in self.credentials:
            places[f"the credential {credential_for(name, kind)}"] = self.credentials[key]
        if file := getattr(table, f"{kind}_file"):
            places[f"{kind}_file"] = self._path(file)
        if key in self.variables:
            places[self.variables[key]] = None
        return places

    def _secret(self, name: str, table: AccountTable, kind: str, needed_by: str = "") -> Secret | None:
        """The secret from the one place that has it."""
        key = ("accounts", name, kind)
        places = self._places(name, table, kind)
        if len(places) > 1:
            self.notes.wrong(key, f"is given twice, by {' and by '.join(places)}; keep one")
        elif needed_by and not places:
            self.notes.wrong(key, f"is missing, and {needed_by} needs one; use {three_places(name, kind)}")
        if len(places) != 1:
            return None
        [(place, path)] = places.items()
        try:
            return self._read(key, place, path)
        except OSError as error:
            problem = _unreadable(error)
        except UnicodeError:
            problem = f"is not UTF-8; write the {_words(kind)} in UTF-8"
        except ValueError as error:
            problem = str(error)
        self.notes.wrong(key, f"{place} {problem}")  # and not its path: people put the password itself there
        return None

    def _read(self, key: Key, place: str, path: Path | None) -> Secret:
        text = re.sub(r"\r?\n\Z", "", path.read_bytes().decode()) if path else self.environ[place]
        text.encode()  # an environment that is not UTF-8 arrives as lone surrogates
        if not text:
            raise ValueError(f"is empty; write the {_words(key[-1])}")
        if re.search(r"[\r\n\0]", text):
            raise ValueError(f"has more than one line; write only the {_words(key[-1])}")
        if path and place.endswith("_file") and path.stat().st_mode & 0o044:
            self.notes.warn(key, f"{place} can be read by others than its owner; chmod it to 0600")
        return Secret(text)

    def _route(self, name: str, table: RouteTable, accounts: Mapping[str, Account]) -> Route:
        for key, used, wire in ("from", table.sender, "smtp"), ("to", table.recipient, "imap"):
            account = accounts.get(used)
            if not account:
                self.notes.wrong(("routes", name, key), f"no account {json.dumps(used)}{instead(used, accounts)}")
            elif not getattr(account, wire) and (account.smtp or account.imap):  # with neither it has its line
                problem = f"account {used} has no {wire} server; write accounts.{used}.{wire} or use another account"
                self.notes.wrong(("routes", name, key), problem)
        deadlines = tuple(sorted(set(table.deadlines)))
        if deadlines and deadlines[-1] > table.lost_after:
            problem = f"{deadlines[-1]:g}s is beyond lost_after ({table.lost_after:g}s); shorten it or raise lost_after"
            self.notes.wrong(("routes", name, "deadlines"), problem)
        return Route(name, table.sender, table.recipient, table.every, deadlines, table.lost_after)

    def _check_limit(self, name: str, routes: list[Route]) -> None:
        provider = self.document.accounts[name].provider or ""
        preset = presets().get(provider)
        a_day = sum(86400 / route.every for route in routes)
        if preset and preset.per_day and a_day > preset.per_day + 1e-6:
            often = min(routes, key=lambda route: route.every)
            every = f"{math.ceil(len(routes) * 86400 / preset.per_day)}s"
            where = f" in each of {', '.join(route.name for route in routes)}" if len(routes) > 1 else ""
            problem = f"{a_day:.0f} mails a day from account {name} are beyond {provider}'s limit of {preset.per_day}"
            self.notes.wrong(("routes", often.name, "every"), f'{problem}; write every = "{every}" or longer{where}')

    def _state_dir(self) -> Path:
        if self.document.state_dir:
            return self._path(self.document.state_dir)
        if systemd := self.environ.get("STATE_DIRECTORY"):
            return Path(systemd.partition(":")[0])  # several StateDirectory= are joined by colons; ours is the first
        if (xdg := self.environ.get("XDG_STATE_HOME", "")).startswith("/"):  # a relative one is to be ignored
            return Path(xdg, "mailprobe")
        if home := self.environ.get("HOME"):
            return Path(home, ".local/state/mailprobe")
        self.notes.wrong(("state_dir",), 'has no default without $HOME; write state_dir = "/var/lib/mailprobe"')
        return Path()

    def _path(self, text: str) -> Path:
        home = self.environ.get("HOME")
        return Path(home, text[2:]) if home and text.startswith("~/") else self.directory / text


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror}); relative paths start where the configuration file is"
