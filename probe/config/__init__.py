"""What the user wrote, made into what everybody else may trust: TOML, environment, credentials -> core/settings.py.

Rule: every mistake is one line that names the place, the key and the mend, and no line can show a secret. Passwords
never enter a pydantic model, values that could be one are not repeated, and pydantic's findings get our words.
Only this package imports pydantic and pydantic_settings.

    values.py -> tables.py -> notes.py -> sources.py -> records.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from probe.config.notes import ConfigError, Notes
from probe.config.records import Maker
from probe.config.sources import credentials, environment, read_document, read_file
from probe.config.values import listen_address, parse_duration
from probe.core.settings import Settings

__all__ = ["ConfigError", "listen_address", "load", "parse_duration"]


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the TOML file at `path`, overridden by `environ`; the process's own environment is not looked at.

    Raises ConfigError with one line for every mistake; things that work but should be mended are Settings.warnings.
    """
    notes = Notes(str(path))
    source = read_file(path)
    raw = {kind: source.toml_data.get(kind) for kind in ("accounts", "routes")}
    names = {kind: [*table] if isinstance(table, dict) else [] for kind, table in raw.items()}
    overlay, variables = environment(names, environ, notes)
    found = credentials(names["accounts"], environ, notes)
    document = read_document(source, overlay, notes)
    if document:
        maker = Maker(document, environ, path.absolute().parent, variables, found, notes)
        settings = maker.settings()
    if not document or notes.mistakes:
        raise ConfigError(*notes.mistakes)
    return settings
