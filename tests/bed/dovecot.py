"""Dovecot: IMAP and LMTP for every local part, SASL for Postfix, and the true instant at which a mail was saved.

Rule: any user name exists, with the password "secret" or a token of access_token(). Under root it runs as `nobody` (it
refuses mail for uid 0), who must be able to traverse every parent of the directory: pytest's tmp_path (0700) will not
do.
"""

from __future__ import annotations

import base64
import grp
import hmac
import json
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .pki import Certificate
from .service import HOST, Service, run_tool

PASSWORD = "secret"

# Limits: some hundred IMAP connections from one address. imap-login serves many connections per process, which
# saves a process (and a TLS context) for each of them; imap itself is one process per connection.
# mail_fsync: the disk of a throw-away mailbox needs no promise, and on a shared disk fsync is the longest delay.
_CONFIG = """\
instance_name = {root}
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
# The ground truth: microseconds, in UTC (the service sets TZ).
log_timestamp = "%Y-%m-%dT%H:%M:%S.%{{usecs}}+00:00 "
import_environment = TZ
hostname = {hostname}
protocols = imap lmtp
listen = {host}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1

default_client_limit = 2000
default_process_limit = 400
mail_max_userip_connections = 400
mail_fsync = never

ssl = required
ssl_cert = <{certificate.chain}
ssl_key = <{certificate.key}
auth_mechanisms = plain login xoauth2
auth_username_format = %Ln
auth_failure_delay = 0
passdb {{
  driver = static
  mechanisms = plain login
  args = password={password}
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {root}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%n allow_all_users=yes
}}

mail_location = maildir:~/Maildir
mail_plugins = $mail_plugins notify mail_log
mailbox_list_index = yes
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Junk {{
    special_use = \\Junk
    auto = subscribe
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@bed.test
  mail_plugins = $mail_plugins sieve
}}
plugin {{
  sieve_before = {root}/junk.sieve
  mail_log_events = save copy delete expunge
  mail_log_fields = uid box msgid size
}}

service stats {{
  chroot =
}}
service anvil {{
  chroot =
  # No penalty: after one wrong password every log-in from 127.0.0.1, right ones too, would wait up to 15 s.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  service_count = 0
  process_min_avail = 2
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service lmtp {{
  process_min_avail = 4
  process_limit = 100
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service auth {{
  inet_listener sasl {{
    port = {sasl}
  }}
}}
{extra}
"""

_JUNK = """\
require ["fileinto"];
if header :contains "Subject" "[spam]" { fileinto "Junk"; }
"""

_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={root}/keys/
username_attribute = sub
"""
_KEY = b"whoever has this can make tokens"

_EVENT = re.compile(
    r"(\S+) (?:lmtp|imap)\((?P<user>[^)]*)\).*?: (?P<kind>save|copy|delete|expunge)\b.*?: box=(?P<box>.*?), "
    r"uid=(?P<uid>\d*), msgid=(?P<msgid>.*?), size="
)


@dataclass(frozen=True, slots=True)
class MailEvent:
    """What Dovecot did to one mail. `at`: Unix time in seconds, to the microsecond, this machine's wall clock."""

    at: float
    kind: str  # save, copy, delete (marked), expunge
    user: str
    box: str
    uid: int | None
    message_id: str  # with its angle brackets


class Dovecot(Service):
    """A subject with "[spam]" goes to Junk. hostname: by which it says it received. `extra`: lines for dovecot.conf."""

    port_names = ("imap", "imaps", "lmtp", "sasl")

    def __init__(self, root: Path, certificate: Certificate, extra: str = "", hostname: str = "mx.bed.test") -> None:
        super().__init__(root)
        self.certificate, self.extra, self.hostname = certificate, extra, hostname
        self.env = {"TZ": "UTC"}
        self._owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())

    def configure(self) -> None:
        me = self._owner
        config, junk = self.root / "dovecot.conf", self.root / "junk.sieve"
        config.write_text(_CONFIG.format(
            root=self.root, host=HOST, hostname=self.hostname, user=me.pw_name,
            group=grp.getgrgid(me.pw_gid).gr_name, uid=me.pw_uid, gid=me.pw_gid, certificate=self.certificate,
            password=PASSWORD, extra=self.extra, **self.ports,
        ))  # fmt: skip
        junk.write_text(_JUNK)
        (self.root / "oauth2.conf").write_text(_OAUTH2.format(root=self.root))
        for name in ("run", "state", "mail", "keys/default/HS256"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "keys/default/HS256/default").write_bytes(base64.b64encode(_KEY))
        run_tool("sievec", "-c", config, junk)
        if os.getuid() == 0:
            # Not the whole tree: after a restart the mail and the sockets below are nobody's already.
            for path in (self.root, *self.root.iterdir()):
                shutil.chown(path, me.pw_uid, me.pw_gid)

    def demote(self) -> list[str]:
        if os.getuid() != 0:
            return []
        return ["setpriv", f"--reuid={self._owner.pw_uid}", f"--regid={self._owner.pw_gid}", "--clear-groups"]

    def command(self) -> list[str]:
        return ["/usr/sbin/dovecot", "-F", "-c", str(self.root / "dovecot.conf")]

    def access_token(self, user: str, lasts: float = 3600.0) -> str:
        """A JWT (RFC 7519, HS256) that is this user's for so many seconds."""
        claims = {"sub": user, "iat": int(time.time()) - 1, "exp": int(time.time() + lasts)}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return f"{signed}.{_base64url(hmac.digest(_KEY, signed.encode(), 'sha256'))}"

    def events(self, *kinds: str) -> Iterator[MailEvent]:
        """What was done to mails since the first start, in the log's order; only these kinds, if any are named."""
        for line in self._log.all():
            if (found := _EVENT.match(line)) and (not kinds or found["kind"] in kinds):
                yield MailEvent(
                    at=datetime.fromisoformat(found[1]).timestamp(),
                    kind=found["kind"],
                    user=found["user"],
                    box=found["box"],
                    uid=int(found["uid"]) if found["uid"] else None,
                    message_id=found["msgid"],
                )


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
