"""The shape of the file: its tables as pydantic models. Rule: the defaults are those of core/settings.py."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from probe.config.values import Address, Duration, Host, Line, Name, Size, Text, Url, ask_floor, listen_address
from probe.core.settings import Asking, Page, Retention, Route, Settings, Tls

_ASKING, _ROUTE, _RETENTION, _PAGE = Asking(), Route("", "", ""), Retention(), Page()
_SETTINGS = Settings({}, {}, Path())


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ServerTable(_Table):
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    tls: Tls = "implicit"
    ca_file: Text | None = None


class OAuthTable(_Table):
    client_id: Text
    token_url: Url | None = None
    scope: Line | None = None


class AskingTable(_Table):
    floor: Annotated[Duration, AfterValidator(ask_floor)] = _ASKING.floor
    budget: Annotated[int, Field(ge=1)] = _ASKING.budget


class AccountTable(_Table):
    address: Address
    provider: str | None = None
    username: Text | None = None
    password_file: Text | None = None
    oauth: OAuthTable | None = None
    refresh_token_file: Text | None = None
    client_secret_file: Text | None = None
    smtp: ServerTable | None = None
    imap: ServerTable | None = None
    folders: list[Text] = []
    keep_mails: bool = False
    domains: list[Host] = []
    asking: AskingTable = AskingTable()


class RouteTable(_Table):
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    every: Duration = _ROUTE.every
    deadlines: list[Duration] = list(_ROUTE.deadlines)
    lost_after: Duration = _ROUTE.lost_after


class LedgerTable(_Table):
    keep: Duration = _RETENTION.keep
    max_size: Size = _RETENTION.max_size


class PageTable(_Table):
    public: bool = _PAGE.public


class Document(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", hide_input_in_errors=True, validate_default=False, case_sensitive=True
    )
    state_dir: Text | None = None
    listen: Annotated[tuple[str, int], BeforeValidator(listen_address)] = (_SETTINGS.listen_host, _SETTINGS.listen_port)
    contact: Line = ""
    ledger: LedgerTable = LedgerTable()
    page: PageTable = PageTable()
    accounts: dict[Name, AccountTable] = {}
    routes: dict[Name, RouteTable] = {}


class OAuthPreset(_Table):
    token_url: Url
    scope: Line


class Preset(_Table):
    smtp: ServerTable
    imap: ServerTable
    oauth: OAuthPreset | None = None
    passwords: bool = True
    domains: list[Host] = []
    per_day: int | None = None


@cache
def presets() -> dict[str, Preset]:
    tables = tomllib.loads(resources.files("probe").joinpath("providers.toml").read_text("utf-8"))
    return {name: Preset.model_validate(table) for name, table in tables.items()}
