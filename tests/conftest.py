"""What tests share: a real mail provider per xdist worker, and users nobody else has.

Rule: a missing program is a failure with one line that says what to install, never a skip: a suite that skips its
real peers is green for the wrong reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .bed import mailbed
from .bed.mailbed import MailBed


@pytest.fixture(scope="session")
def bed() -> Iterator[MailBed]:
    """Postfix and Dovecot, started once. Leave them as they were: hold_new(False), set(...) back, thawed."""
    if missing := mailbed.what_is_missing():
        pytest.fail(missing, pytrace=False)
    # Not tmp_path: it is 0700, and Dovecot's `nobody` must get in. Short, because of Unix sockets' 108 characters.
    root = Path(tempfile.mkdtemp(prefix="mailbed-", dir="/tmp"))
    root.chmod(0o755)
    bed = MailBed(root)
    try:
        yield bed.start()
    finally:
        bed.wipe()


@pytest.fixture
def fresh_user() -> Callable[[], str]:
    """Makes local parts of bed.test that no other test has used."""
    return mailbed.fresh_user
