"""Where the configuration comes from: the file, the environment, the credentials.

The file alone says which accounts and routes exist; the environment overrides single values of it. pydantic-settings'
own environment and secrets sources ignore misspelt names, lower their case and cannot find `a-to-b` in `A_TO_B`, so
names are matched here, and what the environment says enters as the init source above the TOML source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from probe.config.notes import (
    PREFIX,
    SECRETS,
    ConfigError,
    Key,
    Notes,
    credential_for,
    instead,
    keys,
    variable_for,
    words,
)
from probe.config.tables import AccountTable, Document, RouteTable

_WHOLE = "mailprobe_"  # LoadCredential=mailprobe:DIRECTORY


def read_file(path: Path) -> TomlConfigSettingsSource:
    try:
        path.open("rb").close()  # the source takes a missing file for an empty one
        return TomlConfigSettingsSource(Document, toml_file=path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); check the path and its permissions"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
    except (ValueError, RecursionError) as error:
        problem = f"is not TOML: {error}; mend it there"
    raise ConfigError(Notes(str(path)).line((), problem))


def _scalars(model: type[BaseModel]) -> Iterator[Key]:
    """The keys below a table that hold one value each: those the environment can override."""
    for key, info in zip(keys(model), model.model_fields.values(), strict=True):
        inner = [a for a in (info.annotation, *get_args(info.annotation)) if isinstance(a, type)]
        table = next((a for a in inner if issubclass(a, BaseModel)), None)
        if table:
            yield from ((key, *rest) for rest in _scalars(table))
        elif get_origin(info.annotation) not in (list, dict):
            yield (key,)


def environment(
    names: Mapping[str, list[str]], environ: Mapping[str, str], notes: Notes
) -> tuple[dict[str, Any], dict[Key, str]]:
    """What MAILPROBE_... variables say: an overlay for the document, and secret -> variable that holds it."""
    known: dict[str, list[Key]] = {}
    for key in [
        *_scalars(Document),
        *(("accounts", name, *key) for name in names["accounts"] for key in _scalars(AccountTable)),
        *(("accounts", name, secret) for name in names["accounts"] for secret in SECRETS),
        *(("routes", name, *key) for name in names["routes"] for key in _scalars(RouteTable)),
    ]:
        known.setdefault(variable_for(key), []).append(key)
    overlay: dict[str, Any] = {}
    secrets: dict[Key, str] = {}
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() == "MAILPROBE_CONFIG":
            continue
        match known.get(variable.upper(), []):
            case []:
                notes.wrong((), f"sets nothing{instead(variable.upper(), known)}", variable)
            case [("accounts", _, secret) as key] if secret in SECRETS:
                secrets[key] = variable
            case [(*tables, last) as key]:
                notes.origins[tuple(key)] = variable
                table = overlay
                for part in tables:
                    table = table.setdefault(part, {})
                table[last] = environ[variable]
            case [one, other, *_]:
                notes.wrong((), f"means both {one[1]} and {other[1]}; rename one of them", variable)
    return overlay, secrets


def credentials(accounts: Iterable[str], environ: Mapping[str, str], notes: Notes) -> dict[Key, Path]:
    """secret -> file that holds it, as systemd's LoadCredential= laid it down.

    A directory that is loaded as a whole puts its own name before each file's (systemd.exec(5)): mailprobe_accounts__….
    One that was loaded by itself counts more than one from there.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    try:
        names = sorted((it.name for it in Path(directory).iterdir()), key=lambda it: (not it.startswith(_WHOLE), it))
    except OSError as error:
        notes.wrong((), f"cannot be read ({error.strerror}); set it to a directory", "CREDENTIALS_DIRECTORY")
        return {}
    present = {
        short: Path(directory, name) for name in names if (short := name.removeprefix(_WHOLE)).startswith("accounts__")
    }
    known = {credential_for(name, secret): ("accounts", name, secret) for name in accounts for secret in SECRETS}
    for name in present:
        if name not in known:
            notes.wrong((), f"{name} is for no account{instead(name, known)}", "CREDENTIALS_DIRECTORY")
    return {known[name]: file for name, file in present.items() if name in known}


def read_document(source: TomlConfigSettingsSource, overlay: dict[str, Any], notes: Notes) -> Document | None:
    class Sourced(Document):
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
            notes.wrong(key, words(found["type"], found.get("ctx", {}), key))
        return None
