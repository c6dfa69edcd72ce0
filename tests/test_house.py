"""The arrows of the house, held by reading its sources: who may import whom, and who may do what.

Rule: every check is a function from sources to complaints, and is shown to complain about a planted source; a check
that cannot fail holds nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator

import pytest

from .make import ROOT

Sources = dict[str, ast.Module]  # module name below probe ("core.state", "mail.smtp", "__init__") → its tree

SHELLS = {
    "mail",
    "config",
    "ledger",
    "metrics",
    "web",
    "log",
    "board",
    "keyfile",
    "provider",
    "page",
    "api",
    "seldom",
}
COMPOSERS = {
    "recorder",
    "prober",
    "daemon",
    "once",
    "check",
    "demo",
    "service",
    "incidents",
    "outlook",
    "report",
    "standing",
}
FACE = {"cli", "terminal"}
OTHERS = {"core", "clock", "__init__"}

CONFIG = {"config.values", "config.tables", "config.notes", "config.sources"}
LEDGER_FILES = "file", "records", "replaying", "chaining", "writing", "writer", "reading", "reader"
LEDGER = {f"ledger.{name}" for name in LEDGER_FILES}
SOLE_IMPORTERS = {
    "aiosmtplib": {"mail.smtp"},
    "aioimaplib": {"mail.imap_wire"},
    "pydantic": CONFIG,
    "pydantic_settings": CONFIG,
    "pydantic_core": CONFIG,
    "prometheus_client": {"metrics.definitions", "metrics.exposition"},
    "aiohttp": {"web", "page.face", "api.answers", "mail.oauth"},
    "sqlite3": LEDGER,
    "aiosmtpd": {"provider.__init__"},
    "pymap": {"provider.mailboxes"},
    "rich": {"cli.common", "cli.demo", "terminal.show", "terminal.traced", "terminal.glance"},
    "click": {"cli.__init__", "cli.common", "cli.demo", "cli.evidence", "cli.service"},
}
SHARED = {
    "aiohttp",
    "click",
    "rich",
    "pydantic",
    "pydantic_settings",
    "prometheus_client",
    "sqlite3",
}  # by a package, or for two purposes
IMPURE = {
    *("asyncio", "concurrent", "contextvars", "logging", "multiprocessing", "os", "secrets", "select", "selectors"),
    *("shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
    *("http", "smtplib", "imaplib", "importlib"),
}


def sources() -> Sources:
    files = sorted((ROOT / "probe").rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT / "probe").with_suffix("").parts): ast.parse(file.read_text("utf-8"))
        for file in files
    }


def unit(module: str) -> str:
    return module.partition(".")[0]


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """Full names of everything that is imported anywhere in the tree, also inside functions."""
    package = f"probe.{module}".split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def neighbours(module: str, tree: ast.AST) -> set[str]:
    """The units of our own that a module imports."""
    known = SHELLS | COMPOSERS | FACE | {"core", "clock"}
    found = {name.split(".")[1] for name in imported(module, tree) if name.startswith("probe.")}
    return (found & known) - {unit(module)}


# -- the checks ----------------------------------------------------------------------------------------------------


def unknown_units(house: Sources) -> list[str]:
    return [
        f"{module} is in no list above" for module in house if unit(module) not in SHELLS | COMPOSERS | FACE | OTHERS
    ]


def impure_core(house: Sources) -> list[str]:
    found = []
    for module, tree in house.items():
        if unit(module) != "core":
            continue
        for name in imported(module, tree):
            top = name.split(".")[0]
            ours = name.startswith("probe.core.")
            if not ours and (top not in sys.stdlib_module_names or top in IMPURE):
                found.append(f"{module} imports {name}")
            if top == "random" and name not in {"random", "random.Random"}:
                found.append(f"{module} imports {name}")
        found += [f"{module}:{node.lineno} {what}" for node, what in _impurities(tree)]
    return found


def _impurities(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
                yield node, f"random.{attr} is global randomness"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random") | ast.Name(id="Random")):
                yield node, "makes a random.Random of its own"
            case ast.Attribute(attr="now" | "utcnow" | "today" as attr):
                yield node, f".{attr} reads a clock"
            case ast.Call(func=ast.Attribute(attr="fromtimestamp"), args=[_], keywords=[]):
                yield node, "fromtimestamp without a time zone reads the machine's"
            case ast.Call(func=ast.Name(id="open" | "input" | "exec" | "eval" | "__import__" as name)):
                yield node, f"{name}()"
            case ast.Call(func=ast.Attribute(attr="read_text" | "read_bytes" | "write_text" | "write_bytes" as attr)):
                yield node, f".{attr}() is a file"


def shells_that_know_others(house: Sources) -> list[str]:
    return [
        f"{module} imports {other}"
        for module, tree in house.items()
        if unit(module) in SHELLS
        for other in sorted(neighbours(module, tree) - {"core"})
    ]


def composers_below_their_users(house: Sources) -> list[str]:
    found = []
    for module, tree in house.items():
        for other in sorted(neighbours(module, tree)):
            if other in COMPOSERS and unit(module) not in COMPOSERS | FACE:
                found.append(f"{module} imports {other}")
            if other in FACE and unit(module) != "cli":
                found.append(f"{module} imports {other}")
    return found


def smuggled_libraries(house: Sources) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, tree in house.items()
        for name in sorted({name.split(".")[0] for name in imported(module, tree)})
        if name in SOLE_IMPORTERS and module not in SOLE_IMPORTERS[name]
    ]


def those_who_print(house: Sources) -> list[str]:
    found = []
    for module, tree in house.items():
        if unit(module) == "cli":
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="print" | "echo" | "secho" as name)):
                    found.append(f"{module}:{node.lineno} {name}()")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="click" | "console" | "builtins"), attr=name)):
                    found.append(f"{module}:{node.lineno} .{name}()")
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="stdout" | "stderr"), attr="write" | "writelines")
                ):
                    found.append(f"{module}:{node.lineno} writes to a standard stream")
                case ast.Call(func=ast.Name(id="Console")):
                    found.append(f"{module}:{node.lineno} makes a console")
    return found


def modules_without_docstring(house: Sources) -> list[str]:
    """A package's empty __init__ says nothing and need not."""
    return [f"{module} has no docstring" for module, tree in house.items() if tree.body and not ast.get_docstring(tree)]


# -- the tests -----------------------------------------------------------------------------------------------------

CHECKS: list[tuple[Callable[[Sources], list[str]], list[tuple[str, str]]]] = [
    (unknown_units, [("annex", "")]),
    (
        impure_core,
        [
            *[("core.x", f"import {name}") for name in ("asyncio", "socket", "sqlite3", "logging", "time", "os.path")],
            ("core.x", "def f():\n    from time import time"),
            ("core.x", "import aiohttp"),
            ("core.x", "from probe import clock"),
            ("core.x", "from probe.ledger import Ledger"),
            ("core.x", "from ..log import line"),
            ("core.x", "import random\nrandom.uniform(0, 1)"),
            ("core.x", "from random import uniform"),
            ("core.x", "import random\nr = random.Random()"),
            ("core.x", "from datetime import datetime\ndatetime.now()"),
            ("core.x", "import datetime\ndatetime.date.today()"),
            ("core.x", "from datetime import datetime\nt = datetime.fromtimestamp(1.0)"),
            ("core.x", "open('x')"),
            ("core.x", "from pathlib import Path\nPath('x').read_text()"),
        ],
    ),
    (
        shells_that_know_others,
        [
            ("web", "from probe.metrics import Metrics"),
            ("web", "from probe import metrics"),
            ("web", "import probe.metrics"),
            ("mail.smtp", "from probe.log import line"),
            ("mail.smtp", "from ..log import line"),
            ("log", "from .mail import net"),
            ("log", "def f():\n    import probe.mail.net"),
            ("ledger", "from probe.recorder import Recorder"),
            ("metrics", "from probe import clock"),
        ],
    ),
    (
        composers_below_their_users,
        [
            ("clock", "from probe.daemon import run"),
            ("board", "from probe import once"),
            ("check", "from probe.terminal import show"),
            ("daemon", "from probe.terminal.show import step"),
            ("terminal.show", "from probe.cli import main"),
            ("prober", "from . import cli"),
        ],
    ),
    (
        smuggled_libraries,
        [
            *[("daemon", f"import {name}") for name in SOLE_IMPORTERS],
            ("mail.watcher", "def f():\n    from aioimaplib import aioimaplib"),
            ("terminal.show", "import click"),
            ("prober", "import prometheus_client.core as c"),
        ],
    ),
    (
        those_who_print,
        [
            ("once", "print('x')"),
            ("terminal.show", "click.echo('x')"),
            ("terminal.show", "from click import echo\necho('x')"),
            ("check", "import sys\nsys.stdout.write('x')"),
            ("terminal.show", "from rich.console import Console\nConsole().print('x')"),
            ("terminal.show", "def f(console):\n    console.print('x')"),
        ],
    ),
    (modules_without_docstring, [("once", "x = 1"), ("web", "# a comment\nimport os")]),
]


@pytest.mark.parametrize("check", [check for check, _ in CHECKS], ids=lambda check: check.__name__)
def test_the_house_has_no(check: Callable[[Sources], list[str]]) -> None:
    assert check(sources()) == []


@pytest.mark.parametrize(
    ("check", "module", "text"),
    [
        pytest.param(check, module, text, id=f"{check.__name__}-{number}")
        for check, plants in CHECKS
        for number, (module, text) in enumerate(plants)
    ],
)
def test_a_planted_offence_is_found(check: Callable[[Sources], list[str]], module: str, text: str) -> None:
    assert check({module: ast.parse(text)})


def test_the_sources_are_really_read() -> None:
    house = sources()
    assert {"core.state", "mail.imap", "cli.service", "recorder"} <= house.keys()
    assert neighbours("daemon", house["daemon"]) >= {"core", "web", "ledger", "prober", "clock"}
    for library, importers in SOLE_IMPORTERS.items():
        if library != "pydantic_core":
            users = {m for m, tree in house.items() if library in {n.split(".")[0] for n in imported(m, tree)}}
            assert users <= importers
            assert users, library
            assert len(users) == 1 or library in SHARED, library
