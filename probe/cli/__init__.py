"""The command line: parses, calls, prints. The only package that prints; how things look is in terminal/.

Rule: a command imports what it needs when it is called: --help must not load a mail server.
"""

from __future__ import annotations

import click

from probe import __version__
from probe.cli.common import Options, with_config, with_listen
from probe.cli.demo import demo
from probe.cli.evidence import report, trace, verify
from probe.cli.service import check, once, run, status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@with_config
@with_listen
@click.version_option(__version__, "-V", "--version", prog_name="mailprobe", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Send test mails through mail providers, see them arrive, and measure how long each one held them.

    Try `mailprobe demo` first: it needs no account. Then write a configuration, let `mailprobe check` look at it, send
    a single mail with `mailprobe once ROUTE`, and leave `mailprobe run` running.
    """
    context.ensure_object(Options)


for _command in (run, once, check, status, trace, demo, report, verify):
    main.add_command(_command)
