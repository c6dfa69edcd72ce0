"""The commands that explain and prove, afterwards: trace, report, verify."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from probe import clock
from probe.cli.common import (
    Options,
    fail,
    settings_of,
    terminal,
    with_config,
)
from probe.core.phrases import Language
from probe.ledger import LedgerError


@click.command(short_help="Explain which way a mail took.")
@click.argument("files", nargs=-1, metavar="[FILE|-]...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per mail, one a line.")
def trace(files: tuple[Path, ...], as_json: bool) -> None:
    """Explain the way of any mail by its header: who had it for how long, as far as its stamps tell.

    FILE is a message (.eml), an mbox, or header lines that were copied from somewhere; - or nothing: standard input.
    Exits with 1 where no mail with a Received header was found.
    """
    from probe.core.explain import explain
    from probe.core.mailfile import headers
    from probe.terminal import traced

    console = terminal()
    empty = False
    for file in files or (Path("-"),):
        name = "standard input" if str(file) == "-" else str(file)
        try:
            raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            fail(f"{name}: {error.strerror}")
        mails = [mail for mail in map(explain, headers(raw)) if mail.hops]
        if not mails:
            click.echo(
                f"mailprobe: {name}: no Received header in it; give a message, an mbox, or header lines", err=True
            )
            empty = True
        for mail in mails:
            if as_json:
                click.echo(json.dumps(traced.data(mail, name)))
            else:
                console.print(traced.view(mail, console.width))
    sys.exit(1 if empty else 0)


@click.command(short_help="Put together the evidence, as a document.")
@with_config
@click.option("--since", default="", metavar="TIME", help="2007-01-26, 2007-01-26T09:02+01:00, or 7d.  [default: 24h]")
@click.option("--until", default="", metavar="TIME", help="The same; a date is its whole day.  [default: now]")
@click.option("--route", "routes", multiple=True, metavar="ROUTE", help="Only this one; may be repeated.")
@click.option("--format", "form", type=click.Choice(("html", "md", "json", "csv")), default="html", show_default=True)
@click.option("--lang", type=click.Choice(("en", "de")), default="en", show_default=True)
@click.option("--tz", default="UTC", metavar="ZONE", help="Also tell times there, such as Europe/Berlin.")
@click.option("--details", default=20, metavar="N", help="The way through the servers of so many.", show_default=True)
@click.option(
    "--heads", is_flag=True, help="Only the heads of the chains, a line for each route and day, for a witness."
)
@click.option("--ledger", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the configuration's.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Instead of standard output.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def report(
    options: Options,
    since: str,
    until: str,
    routes: tuple[str, ...],
    form: str,
    lang: Language,
    tz: str,
    details: int,
    heads: bool,
    ledger: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    """Put together the evidence of a span of time, as a document that can be sent and verified.

    Every mail that was late, lost, returned, refused or is not there yet, with all instants and what the servers said.
    """
    from probe.report import file, render
    from probe.report.gather import Wanted, collect, collect_heads
    from probe.report.span import span, zone

    now = clock.now().wall
    try:
        place = zone(tz)
        wanted = Wanted(*span(since, until, place, now), now, lang, place, max(0, details))
    except ValueError as error:
        fail(str(error))
    path = ledger or settings_of(options).state_dir / "ledger.sqlite"
    try:
        if heads:
            text = "".join(f"{line}\n" for line in asyncio.run(collect_heads(path, routes, wanted)))
        else:
            text = render(asyncio.run(collect(path, routes, wanted)), form)
        if output:
            file.save(output, text, force=force)
        else:
            sys.stdout.buffer.write(text.encode())
    except (LedgerError, ValueError, file.Exists) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{output or 'standard output'}: {error.strerror}")


@click.command(short_help="Look whether a report is as it was made.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--heads", type=click.Path(path_type=Path), metavar="FILE", help="Heads as a witness has kept them.")
def verify(file: Path, heads: Path | None) -> None:
    """Look whether a report (HTML or JSON) is as it was made, and what that proves. Needs nothing but FILE.

    Exits with 0 when it is, 1 when it was changed, 2 when it cannot be verified.
    """
    from probe.core.evidence import read_heads
    from probe.report.verify import findings
    from probe.report.verify import verify as examine

    name = heads or file
    try:
        witness = read_heads(heads.read_text("utf-8", "replace").splitlines()) if heads else {}
        name = file
        verdict = examine(file.read_bytes(), witness)
    except (OSError, ValueError) as error:
        fail(f"{name}: {getattr(error, 'strerror', None) or error}")
    for line in findings(verdict, witness):
        click.echo(line)
    sys.exit(1 if verdict.changed else 0)
