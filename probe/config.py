"""What the user wrote, made into what everybody else may trust: TOML, environment, credentials -> core/settings.py.

Rule: every mistake is one line that names the place, the key and the mend, and no line can show a secret. Passwords
never enter a pydantic model, values that could be one are not repeated, and pydantic's findings get our words.

The file alone says which accounts and routes exist; the environment overrides single values of it. pydantic-settings'
own environment and secrets sources ignore misspelt names, lower their case and cannot find `a-to-b` in `A_TO_B`, so
names are matched here, and what the environment says enters as the init source above the TOML source.
Sole importer of pydantic and pydantic_settings.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from probe.core.settings import Account, Asking, Route, Secret, Server, Settings, Tls

Key = tuple[str, ...]  # ("routes", "a-to-b", "every")

PREFIX = "MAILPROBE_"
PORTS: dict[str, dict[Tls, int]] = {
    "smtp": {"implicit": 465, "starttls": 587, "none": 25},  # RFC 8314, RFC 6409, RFC 5321
    "imap": {"implicit": 993, "starttls": 143, "none": 143},
}


class ConfigError(Exception):
    """The configuration cannot be used. `lines` holds one line per mistake; str() is those lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


# ---- values: each check raises ValueError with "what is wrong; the mend" ----

# In the order in which they may be written.
_UNITS = {unit: Fraction(s) for unit, s in {"d": "86400", "h": "3600", "m": "60", "s": "1", "ms": "1/1000"}.items()}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?){unit}(?![a-z]))?" for unit in _UNITS))
_TEN_YEARS = 3650 * 86400


def parse_duration(text: str) -> float:
    """Seconds meant by "5d", "1h30m", "30s" or "500ms": more than 0, at most ten years. Raises ValueError."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"{text} has no unit; write {text}s")
    found = _DURATION.fullmatch(text)
    if not found or not text:
        raise ValueError(f"{json.dumps(text)} is no duration; write it like 30s, 5m or 1h30m")
    seconds = float(sum(Fraction(count) * _UNITS[unit] for unit, count in found.groupdict().items() if count))
    if not 0 < seconds <= _TEN_YEARS:
        raise ValueError(f"{text} is not between 0 and ten years; write it like 30s, 5m or 1h30m")
    return seconds


def _duration(value: object) -> float:
    return parse_duration(str(value) if isinstance(value, str | int | float) else "")


def _floor(seconds: float) -> float:
    if seconds < 0.01:
        raise ValueError("would ask the provider too often; write 10ms or more")
    return seconds


def _listen(value: object) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", str(value))
    if not found or int(found[3]) > 65535:
        raise ValueError('is no address to listen on; write "127.0.0.1:10925" or "[::1]:10925"')
    return found[1] or found[2], int(found[3])


def _like(*checks: tuple[str, str]) -> AfterValidator:
    """Text that matches every (pattern, problem); the first that does not match is the mistake."""

    def check(text: str) -> str:
        for pattern, problem in checks:
            if not re.fullmatch(pattern, text, re.DOTALL):
                raise ValueError(problem)
        return text

    return AfterValidator(check)


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PROBE = "; write it like probe@example.org"

Duration = Annotated[float, BeforeValidator(_duration)]
Name = Annotated[
    str, _like((r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "is no name; use up to 63 of A-Z a-z 0-9 - _, the first no - or _"))
]
Line = Annotated[
    str, _like((r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "contains a control character; remove it"))
]
Text = Annotated[Line, _like((r".+", "is empty; write it or remove the key"))]
Host = Annotated[
    str,
    _like(
        (r"[\x00-\x7f]*", "is not ASCII; write it as xn--…"),
        (r"[A-Za-z0-9._:-]+", "is no host; write a host name or an IP address, the port apart"),
    ),
]
# A mailbox as every SMTP server takes it unquoted (RFC 5321 §4.1.2). aiosmtplib silently cuts an address at CR or LF:
# without these checks a slip would mail to somebody else.
Address = Annotated[
    str,
    _like(
        (r"[^\s\x00-\x1f\x7f-\x9f]*", "contains a space or control character" + _PROBE),
        (r".*@.*", "has no @" + _PROBE),
        (r"[^@]*@[^@]*", "has two @" + _PROBE),
        (r"[^@].*", "has nothing before the @" + _PROBE),
        (r".*[^@]", "has nothing after the @" + _PROBE),
        (r"[\x00-\x7f]*@.*", "needs SMTPUTF8, which mailprobe does not use; write an address of ASCII letters"),
        (r"[\x00-\x7f]*", "has a domain that is not ASCII; write it as xn--…"),
        (rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@.*", "has a local part that not every server takes" + _PROBE),
        (rf".*@(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", "has a domain that is no host name" + _PROBE),
    ),
]


# ---- the shape of the file; defaults are those of the records ----

_ASKING, _ROUTE, _SETTINGS = Asking(), Route("", "", ""), Settings({}, {}, Path())


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Server(_Table):
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    tls: Tls = "implicit"
    ca_file: Text | None = None


class _Asking(_Table):
    floor: Annotated[Duration, AfterValidator(_floor)] = _ASKING.floor
    budget: Annotated[int, Field(ge=1)] = _ASKING.budget


class _Account(_Table):
    address: Address
    provider: str | None = None
    username: Text | None = None
    password_file: Text | None = None
    smtp: _Server | None = None
    imap: _Server | None = None
    folders: list[Text] = []
    keep_mails: bool = False
    asking: _Asking = _Asking()


class _Route(_Table):
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    every: Duration = _ROUTE.every
    deadlines: list[Duration] = list(_ROUTE.deadlines)
    lost_after: Duration = _ROUTE.lost_after


class _Document(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", hide_input_in_errors=True, validate_default=False, case_sensitive=True
    )
    state_dir: Text | None = None
    listen: Annotated[tuple[str, int], BeforeValidator(_listen)] = (_SETTINGS.listen_host, _SETTINGS.listen_port)
    contact: Line = ""
    accounts: dict[Name, _Account] = {}
    routes: dict[Name, _Route] = {}


class _Preset(_Table):
    smtp: _Server
    imap: _Server
    per_day: int | None = None


@cache
def _presets() -> dict[str, _Preset]:
    tables = tomllib.loads(resources.files("probe").joinpath("providers.toml").read_text("utf-8"))
    return {name: _Preset.model_validate(table) for name, table in tables.items()}


# ---- lines ----


@dataclass
class _Notes:
    """The mistakes and warnings found so far, and which environment variable set which key."""

    file: str
    origins: dict[Key, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def wrong(self, key: Key, text: str, place: str = "") -> None:
        self.mistakes.append(self.line(key, text, place))

    def warn(self, key: Key, text: str) -> None:
        self.warnings.append(self.line(key, text))

    def line(self, key: Key, text: str, place: str = "") -> str:
        dotted = ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in key)
        line = ": ".join(part for part in (place or self.origins.get(key, self.file), dotted, text) if part)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _instead(word: str, words: Iterable[str]) -> str:
    """The mend for a word that is none of `words`."""
    known = sorted(words)
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known[:12]) or 'none'}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


_SUBTABLES: dict[str, type[BaseModel]] = {"smtp": _Server, "imap": _Server, "asking": _Asking}
_WORDS = {
    "missing": "is missing; write it",
    "literal_error": "must be one of {expected}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_type": "must be text in quotes",
    "list_type": "must be a list in [ ]",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("dict_type", "model_type"), "must be a table"),
}


def _words(kind: str, context: Mapping[str, Any], key: Key) -> str:
    """A finding of pydantic's in our words, which never show the value."""
    if kind == "value_error":
        return str(context["error"])
    if kind != "extra_forbidden":
        return _WORDS.get(kind, "is not of the right kind").format(**context)
    if key[-1].lower() == "password":
        return f"does not belong in this file; use {_three_places(key[1] if len(key) > 2 else 'NAME')}"
    named = _Account if key[0] == "accounts" else _Route
    model = _Document if len(key) == 1 else named if len(key) == 3 else _SUBTABLES[key[-2]]
    return f"unknown key{_instead(key[-1], _keys(model))}"


def _three_places(name: str) -> str:
    variable = _variable(("accounts", name, "password"))
    return f"password_file, the credential accounts__{name}__password or {variable}"


# ---- reading: file, environment, credentials ----


def _read(path: Path) -> TomlConfigSettingsSource:
    try:
        path.open("rb").close()  # the source takes a missing file for an empty one
        return TomlConfigSettingsSource(_Document, toml_file=path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); check the path and its permissions"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
    except (ValueError, RecursionError) as error:
        problem = f"is not TOML: {error}; mend it there"
    raise ConfigError(_Notes(str(path)).line((), problem))


def _variable(key: Key) -> str:
    return PREFIX + "__".join(key).upper().replace("-", "_")


def _scalars(model: type[BaseModel]) -> Iterator[Key]:
    """The keys below a table that hold one value each: those the environment can override."""
    for key, info in zip(_keys(model), model.model_fields.values(), strict=True):
        inner = [a for a in (info.annotation, *get_args(info.annotation)) if isinstance(a, type)]
        table = next((a for a in inner if issubclass(a, BaseModel)), None)
        if table:
            yield from ((key, *rest) for rest in _scalars(table))
        elif get_origin(info.annotation) not in (list, dict):
            yield (key,)


def _environment(
    names: Mapping[str, list[str]], environ: Mapping[str, str], notes: _Notes
) -> tuple[dict[str, Any], dict[str, str]]:
    """What MAILPROBE_... variables say: an overlay for the document, and account -> variable with its password."""
    known: dict[str, list[Key]] = {}
    for key in [
        *_scalars(_Document),
        *(("accounts", name, *key) for name in names["accounts"] for key in [*_scalars(_Account), ("password",)]),
        *(("routes", name, *key) for name in names["routes"] for key in _scalars(_Route)),
    ]:
        known.setdefault(_variable(key), []).append(key)
    overlay: dict[str, Any] = {}
    passwords: dict[str, str] = {}
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() == "MAILPROBE_CONFIG":
            continue
        match known.get(variable.upper(), []):
            case []:
                notes.wrong((), f"sets nothing{_instead(variable.upper(), known)}", variable)
            case [("accounts", name, "password")]:
                passwords[name] = variable
            case [(*tables, last) as key]:
                notes.origins[tuple(key)] = variable
                table = overlay
                for part in tables:
                    table = table.setdefault(part, {})
                table[last] = environ[variable]
            case [one, other, *_]:
                notes.wrong((), f"means both {one[1]} and {other[1]}; rename one of them", variable)
    return overlay, passwords


def _credentials(accounts: Iterable[str], environ: Mapping[str, str], notes: _Notes) -> dict[str, Path]:
    """account -> file with its password, as systemd's LoadCredential= laid it down."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    try:
        present = sorted(file.name for file in Path(directory).iterdir() if file.name.startswith("accounts__"))
    except OSError as error:
        notes.wrong((), f"cannot be read ({error.strerror}); set it to a directory", "CREDENTIALS_DIRECTORY")
        return {}
    known = {f"accounts__{name}__password": name for name in accounts}
    for name in present:
        if name not in known:
            notes.wrong((), f"{name} is for no account{_instead(name, known)}", "CREDENTIALS_DIRECTORY")
    return {known[name]: Path(directory, name) for name in present if name in known}


def _document(source: TomlConfigSettingsSource, overlay: dict[str, Any], notes: _Notes) -> _Document | None:
    class Sourced(_Document):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, source

    try:
        return Sourced(**overlay)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            key = tuple(part for part in found["loc"] if isinstance(part, str))  # without indexes into lists
            if found["type"] == "value_error" and key[-1] == "[key]":  # a bad name of an account or route
                key = key[:-1]
            notes.wrong(key, _words(found["type"], found.get("ctx", {}), key))
        return None


# ---- from the document to the records ----


@dataclass
class _Maker:
    """Makes the records out of a document of the right shape; what does not fit together goes to `notes`."""

    document: _Document
    environ: Mapping[str, str]
    directory: Path  # of the configuration file: relative paths start here
    variables: Mapping[str, str]  # account -> environment variable with its password
    credentials: Mapping[str, Path]  # account -> credential file
    notes: _Notes

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
            accounts, routes, self._state_dir(), host, port, self.document.contact, tuple(self.notes.warnings)
        )

    def _account(self, name: str, table: _Account) -> Account:
        preset = None
        if table.provider is not None:
            preset = _presets().get(table.provider)
            if not preset:
                problem = f"unknown provider {json.dumps(table.provider)}{_instead(table.provider, _presets())}"
                self.notes.wrong(("accounts", name, "provider"), problem)
        elif not table.smtp and not table.imap:
            self.notes.wrong(("accounts", name), "has no server; write provider, smtp or imap")
        smtp = self._server(name, "smtp", table.smtp or (preset.smtp if preset else None))
        imap = self._server(name, "imap", table.imap or (preset.imap if preset else None))
        password = self._password(name, table, needed=imap is not None)
        for wire, server in ("smtp", smtp), ("imap", imap):
            if server and server.tls == "none" and password:
                key = ("accounts", name, wire, "tls")
                self.notes.warn(key, '"none" sends the password in clear; write "implicit" or "starttls"')
        asking = Asking(table.asking.floor, table.asking.budget)
        return Account(
            name, table.address, table.username or table.address, password, smtp, imap,
            tuple(table.folders), table.keep_mails, asking,
        )  # fmt: skip

    def _server(self, name: str, wire: str, table: _Server | None) -> Server | None:
        if not table:
            return None
        ca_file = self._path(table.ca_file) if table.ca_file else None
        if ca_file:
            try:
                ca_file.open("rb").close()
            except OSError as error:
                self.notes.wrong(("accounts", name, wire, "ca_file"), _unreadable(error))
        return Server(table.host, table.port or PORTS[wire][table.tls], table.tls, ca_file)

    def _password(self, name: str, table: _Account, needed: bool) -> Secret | None:
        """The password from the one place that has it; None means: do not log in."""
        key = ("accounts", name, "password")
        places: dict[str, Path | None] = {}
        if name in self.credentials:
            places[f"the credential accounts__{name}__password"] = self.credentials[name]
        if table.password_file:
            places["password_file"] = self._path(table.password_file)
        if name in self.variables:
            places[self.variables[name]] = None
        if len(places) > 1:
            self.notes.wrong(key, f"is given twice, by {' and by '.join(places)}; keep one")
        elif needed and not places:
            self.notes.wrong(key, f"is missing, and IMAP needs one; use {_three_places(name)}")
        if len(places) != 1:
            return None
        [(place, path)] = places.items()
        try:
            return self._secret(key, place, path)
        except OSError as error:
            problem = _unreadable(error)
        except UnicodeError:
            problem = "is not UTF-8; write the password in UTF-8"
        except ValueError as error:
            problem = str(error)
        self.notes.wrong(key, f"{place} {problem}")  # and not its path: people put the password itself there
        return None

    def _secret(self, key: Key, place: str, path: Path | None) -> Secret:
        text = re.sub(r"\r?\n\Z", "", path.read_bytes().decode()) if path else self.environ[place]
        text.encode()  # an environment that is not UTF-8 arrives as lone surrogates
        if not text:
            raise ValueError("is empty; write the password")
        if re.search(r"[\r\n\0]", text):
            raise ValueError("has more than one line; write only the password")
        if path and place == "password_file" and path.stat().st_mode & 0o044:
            self.notes.warn(key, "password_file can be read by others than its owner; chmod it to 0600")
        return Secret(text)

    def _route(self, name: str, table: _Route, accounts: Mapping[str, Account]) -> Route:
        for key, used, wire in ("from", table.sender, "smtp"), ("to", table.recipient, "imap"):
            account = accounts.get(used)
            if not account:
                self.notes.wrong(("routes", name, key), f"no account {json.dumps(used)}{_instead(used, accounts)}")
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
        preset = _presets().get(provider)
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


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror}); relative paths start where the configuration file is"


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the TOML file at `path`, overridden by `environ`; the process's own environment is not looked at.

    Raises ConfigError with one line for every mistake; things that work but should be mended are Settings.warnings.
    """
    notes = _Notes(str(path))
    source = _read(path)
    raw = {kind: source.toml_data.get(kind) for kind in ("accounts", "routes")}
    names = {kind: [*table] if isinstance(table, dict) else [] for kind, table in raw.items()}
    overlay, variables = _environment(names, environ, notes)
    credentials = _credentials(names["accounts"], environ, notes)
    document = _document(source, overlay, notes)
    if document:
        maker = _Maker(document, environ, path.absolute().parent, variables, credentials, notes)
        settings = maker.settings()
    if not document or notes.mistakes:
        raise ConfigError(*notes.mistakes)
    return settings
