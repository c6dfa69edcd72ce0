"""What tests share: a real mail provider per xdist worker, and users nobody else has.

Rule: a missing program is a failure with one line that says what to install, never a skip: a suite that skips its
real peers is green for the wrong reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from .bed import mailbed
from .bed import relays as chain
from .bed.mailbed import MailBed
from .bed.relays import HOSTS, Relays

settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("untimed")


def _root() -> Path:
    # Not tmp_path: it is 0700, and Dovecot's `nobody` must get in. Short, because of Unix sockets' 108 characters.
    root = Path(tempfile.mkdtemp(prefix="mailbed-", dir="/tmp"))
    root.chmod(0o755)
    return root


@pytest.fixture(scope="session")
def bed() -> Iterator[MailBed]:
    """Postfix and Dovecot, started once. Leave them as they were: hold_new(False), set(...) back, thawed."""
    if missing := mailbed.what_is_missing():
        pytest.fail(missing, pytrace=False)
    bed = MailBed(_root())
    try:
        yield bed.start()
    finally:
        bed.wipe()


@pytest.fixture(scope="module")
def relays() -> Iterator[Relays]:
    """Three relays and Dovecot; the one in the middle is 37 s slow. Leave them as they were: hold(0)."""
    if missing := chain.what_is_missing():
        pytest.fail(missing, pytrace=False)
    relays = Relays(_root(), {HOSTS[1]: -37.0})
    try:
        yield relays.start()
    finally:
        relays.wipe()


@pytest.fixture
def fresh_user() -> Callable[[], str]:
    """Makes local parts of bed.test that no other test has used."""
    return mailbed.fresh_user
